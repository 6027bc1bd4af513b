//! The edge: arguments, command, exit code; the only printer of error chains.

use std::io::{Write, stderr};
use std::process::ExitCode;

use clap::Parser;
use pec_milter::cli::{Arguments, execute, failure_code};
use pec_milter::operations::causes;

fn main() -> ExitCode {
    match execute(Arguments::parse()) {
        Ok(code) => code,
        Err(failure) => {
            // Nothing is left to be done where stderr is gone.
            _ = writeln!(stderr(), "pec-milter: {}", causes(failure.as_ref()));
            failure_code(&failure)
        }
    }
}
