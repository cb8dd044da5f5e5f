//! Checked readers and writers of weight files
