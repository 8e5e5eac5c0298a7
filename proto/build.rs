//! Compiles every `.proto` under `proto/` with protox, so that no `protoc` is needed.

use std::{fs, io, path::PathBuf};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = PathBuf::from("proto");
    println!("cargo::rerun-if-changed=proto");
    let mut files = Vec::new();
    collect(&root, &mut files)?;
    files.sort();
    let descriptors = protox::compile(&files, [&root])?;
    let encoded = prost::Message::encode_to_vec(&descriptors);
    fs::write(PathBuf::from(std::env::var("OUT_DIR")?).join("descriptors.bin"), encoded)?;
    tonic_prost_build::configure().bytes(".").include_file("packages.rs").compile_fds(descriptors)?;
    Ok(())
}

fn collect(dir: &PathBuf, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|ext| ext == "proto") {
            files.push(path);
        }
    }
    Ok(())
}
