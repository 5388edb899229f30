//! Arguments to one command; everything else is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(azaion_loader::cli::main(std::env::args_os().skip(1)))
}
