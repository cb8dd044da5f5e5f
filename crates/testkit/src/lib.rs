//! Test harness shared by the Formwork crates: op table, goldens, gradient checks
