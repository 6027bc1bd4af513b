//! The verbs: decide, record, then act.

pub mod ports;
