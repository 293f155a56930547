//! Makes an empty qcow2 image: `image PATH BYTES [BACKING FORMAT]`.
#![expect(clippy::print_stderr, reason = "a test program")]

use std::io;
use std::process::ExitCode;

use imago::file::File;
use imago::qcow2::Qcow2;
use imago::{FormatAccess, FormatCreateBuilder, Storage, StorageCreateOptions};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words[..] {
        [path, bytes] => create(path, bytes, None),
        [path, bytes, backing, format] => create(path, bytes, Some((backing, format))),
        _ => Err(io::Error::other("image PATH BYTES [BACKING FORMAT]")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("image: {error}");
            ExitCode::FAILURE
        }
    }
}

fn create(path: &str, bytes: &str, backing: Option<(&str, &str)>) -> io::Result<()> {
    let size = bytes.parse().map_err(io::Error::other)?;
    let file = File::create_open(StorageCreateOptions::new().filename(path).overwrite(true))?;
    let builder = Qcow2::<File, FormatAccess<File>>::create_builder(file).size(size);
    match backing {
        Some((name, format)) => builder.backing(name.to_owned(), format.to_owned()).create(),
        None => builder.create(),
    }
}
