//! The edge: arguments, command, exit code; the only printer of error chains.

use std::io::{Write, stderr};
use std::process::ExitCode;

use clap::Parser;
use pec_milter::cli::{Arguments, execute};

fn main() -> ExitCode {
    match execute(Arguments::parse()) {
        Ok(code) => code,
        Err(failure) => {
            let mut text = failure.to_string();
            let mut source = failure.source();
            while let Some(cause) = source {
                let cause_text = cause.to_string();
                // Some errors already tell their cause.
                if !text.contains(&cause_text) {
                    text.push_str(": ");
                    text.push_str(&cause_text);
                }
                source = cause.source();
            }
            // Nothing is left to be done where stderr is gone.
            _ = writeln!(stderr(), "pec-milter: {text}");
            ExitCode::from(2)
        }
    }
}
