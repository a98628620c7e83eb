//! Compiles `proto/record.proto`, the form of stored records, without protoc.

fn main() -> anyhow::Result<()> {
    println!("cargo:rerun-if-changed=proto/record.proto");
    let descriptors = protox::compile(["record.proto"], ["proto"])?;
    tonic_prost_build::configure()
        .build_client(false)
        .build_server(false)
        .btree_map(".")
        .compile_fds(descriptors)?;
    Ok(())
}
