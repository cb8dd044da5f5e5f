//! Training: data, AdamW, schedules, evaluation, resume
