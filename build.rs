//! Compiles `proto/` into the wire types, with no protoc on the machine, and writes the descriptor
//! set (options included) that reflection and the REST gateway read.

use std::path::{Path, PathBuf};

use anyhow::Context;

fn main() -> anyhow::Result<()> {
    println!("cargo:rerun-if-changed=proto");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").context("cargo sets OUT_DIR")?);
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_imports(true).include_source_info(true).open_files(proto_files()?)?;
    std::fs::write(out.join("berth.binpb"), compiler.encode_file_descriptor_set())?;
    tonic_prost_build::configure()
        .build_transport(true)
        .codec_path("crate::codec::Codec")
        .bytes(".berth.v1.LogEntry.data")
        .btree_map(".")
        .extern_path(".google.rpc", "::tonic_types::pb")
        .extern_path(".google.protobuf.Timestamp", "::prost_types::Timestamp")
        .extern_path(".google.protobuf.Duration", "::prost_types::Duration")
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}

fn proto_files() -> anyhow::Result<Vec<PathBuf>> {
    let folder = Path::new("proto/berth/v1");
    let mut files = Vec::new();
    for entry in
        std::fs::read_dir(folder).with_context(|| format!("{} is part of the source", folder.display()))?
    {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "proto") {
            // The compiler names files relative to its include folder.
            files.push(path.strip_prefix("proto")?.to_owned());
        }
    }
    files.sort();
    Ok(files)
}
