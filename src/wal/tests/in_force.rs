//! The options RocksDB works with, as it has written them down: it changes some of them in
//! silence when others are set.

use std::collections::BTreeMap;

use super::*;

/// All options, by section and name.
struct InForce(BTreeMap<String, BTreeMap<String, String>>);

impl InForce {
    fn read(dir: &Path) -> Self {
        let files = std::fs::read_dir(dir).unwrap().map(|file| file.unwrap().path());
        let number = |path: &std::path::PathBuf| {
            let name = path.file_name()?.to_str()?;
            name.strip_prefix("OPTIONS-")?.parse::<u64>().ok()
        };
        let newest = files.filter(|path| number(path).is_some()).max_by_key(number).unwrap();
        let mut sections: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
        let mut section = String::new();
        for line in std::fs::read_to_string(newest).unwrap().lines().map(str::trim) {
            if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
                section = name.to_owned();
            } else if let Some((name, value)) = line.split_once('=')
                && !line.starts_with('#')
            {
                let options = sections.entry(section.clone()).or_default();
                options.insert(name.to_owned(), value.to_owned());
            }
        }
        Self(sections)
    }

    fn get(&self, section: &str, name: &str) -> &str {
        let options = self.0.get(section).unwrap_or_else(|| panic!("no section {section}"));
        options.get(name).unwrap_or_else(|| panic!("no {name} in {section}"))
    }

    /// All that differ, in one message.
    #[track_caller]
    fn are(&self, section: &str, wanted: &[(&str, &str)]) {
        let odd: Vec<_> = wanted
            .iter()
            .map(|(name, value)| (*name, self.get(section, name), *value))
            .filter(|(_, found, value)| found != value)
            .collect();
        assert!(odd.is_empty(), "[{section}] (name, in force, wanted): {odd:?}");
    }
}

fn in_force() -> InForce {
    let dir = tempfile::tempdir().unwrap();
    // What holds for a store that is made has to hold for one that is opened.
    close(open(&dir));
    let _wal = open(&dir);
    InForce::read(&dir.path().join("wal"))
}

#[test]
fn the_store_works_with_the_options_it_was_given() {
    in_force().are(
        "DBOptions",
        &[
            ("wal_recovery_mode", "kTolerateCorruptedTailRecords"),
            ("track_and_verify_wals_in_manifest", "true"),
            ("paranoid_checks", "true"),
            ("atomic_flush", "true"),
            ("max_total_wal_size", "1073741824"),
            ("bytes_per_sync", "1048576"),
            ("max_background_jobs", "2"),
            ("enable_pipelined_write", "false"),
            ("unordered_write", "false"),
            ("two_write_queues", "false"),
            ("manual_wal_flush", "false"),
            ("recycle_log_file_num", "0"),
            ("wal_compression", "kNoCompression"),
            ("enable_write_thread_adaptive_yield", "false"),
            ("allow_concurrent_memtable_write", "false"),
            ("keep_log_file_num", "4"),
            ("max_log_file_size", "16777216"),
            ("stats_dump_period_sec", "0"),
            ("stats_persist_period_sec", "0"),
            ("max_open_files", "512"),
            ("use_fsync", "false"),
            ("avoid_flush_during_recovery", "false"),
        ],
    );
}

#[test]
fn frames_are_kept_with_the_options_they_were_given() {
    let in_force = in_force();
    let lz4 = ["kLZ4Compression"; 7].join(":");
    in_force.are(
        "CFOptions \"records\"",
        &[
            ("compaction_style", "kCompactionStyleLevel"),
            ("compression", "kLZ4Compression"),
            ("compression_per_level", &lz4),
            ("bottommost_compression", "kDisableCompressionOption"),
            ("num_levels", "7"),
            ("write_buffer_size", "16777216"),
            ("max_write_buffer_number", "8"),
            ("min_write_buffer_number_to_merge", "1"),
            ("level0_file_num_compaction_trigger", "1"),
            ("level0_slowdown_writes_trigger", "1048576"),
            ("level0_stop_writes_trigger", "1048576"),
            ("soft_pending_compaction_bytes_limit", "0"),
            ("hard_pending_compaction_bytes_limit", "0"),
            ("target_file_size_base", "16777216"),
            ("disable_auto_compactions", "false"),
            ("ttl", "0"),
            ("periodic_compaction_seconds", "0"),
            ("paranoid_file_checks", "false"),
            ("force_consistency_checks", "true"),
        ],
    );
    in_force.are(
        "TableOptions/BlockBasedTable \"records\"",
        &[
            ("block_size", "65536"),
            ("cache_index_and_filter_blocks", "true"),
            ("filter_policy", "nullptr"),
            ("checksum", "kXXH3"),
        ],
    );
}

#[test]
fn everything_else_is_small() {
    let in_force = in_force();
    for family in ["segments", "frames", "cursors", "meta"] {
        in_force.are(
            &format!("CFOptions \"{family}\""),
            &[
                ("compression", "kLZ4Compression"),
                ("write_buffer_size", "8388608"),
                ("max_write_buffer_number", "4"),
            ],
        );
        in_force.are(
            &format!("TableOptions/BlockBasedTable \"{family}\""),
            &[("block_size", "16384"), ("cache_index_and_filter_blocks", "true")],
        );
    }
}
