//! Position encodings: learned and rotary
