//! Whatever an administrator gets wrong `check-config` explains, in one line that names file, line and key, and what to do;
//! `run` says the same and does not start. Keys, certificates and tables are real files; no server is needed.

mod authorities;
mod configuration;
mod keys;
mod settings;
mod tables;
mod warnings;
