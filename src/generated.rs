//! The durable forms as prost writes them from `proto/`. The output is committed, so a build needs
//! neither protoc nor this step; a test holds the two together.

#[allow(
    missing_docs,
    unnameable_types,
    unreachable_pub,
    unused_qualifications,
    clippy::use_self,
    clippy::trivially_copy_pass_by_ref,
    reason = "written by prost"
)]
#[cfg_attr(not(feature = "server"), allow(dead_code, reason = "the log's own forms"))]
#[rustfmt::skip]
#[path = "gen/forebay.storage.v1.rs"]
pub(crate) mod storage;

#[cfg(test)]
mod tests {
    /// `FOREBAY_REGENERATE=1 cargo test generated` writes the file anew.
    #[test]
    fn the_committed_output_is_what_prost_makes_of_the_proto() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let scratch = tempfile::tempdir().unwrap();
        let descriptors = protox::compile(
            [root.join("proto/forebay/storage/v1/storage.proto")],
            [root.join("proto")],
        )
        .unwrap();
        prost_build::Config::new()
            .bytes([".forebay.storage.v1.Record.body"])
            .out_dir(scratch.path())
            .compile_fds(descriptors)
            .unwrap();
        let fresh = std::fs::read_to_string(scratch.path().join("forebay.storage.v1.rs")).unwrap();
        let committed = root.join("src/gen/forebay.storage.v1.rs");
        if std::env::var_os("FOREBAY_REGENERATE").is_some() {
            std::fs::write(&committed, &fresh).unwrap();
        }
        assert!(
            std::fs::read_to_string(&committed).unwrap() == fresh,
            "proto/ and src/gen/ differ: run `FOREBAY_REGENERATE=1 cargo test generated`"
        );
    }
}
