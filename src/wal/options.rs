//! Every RocksDB option, with its reason. A test reads the values in force back from the OPTIONS
//! file, since RocksDB changes some of them silently when others are set.

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, DBCompactionStyle, DBCompressionType,
    DBRecoveryMode, Options, ReadOptions, WriteOptions,
};

use super::keys;
use super::store::Sync;

const MIB: usize = 1 << 20;

/// One memtable of records, beside the last group, which is taken whole. With larger ones the flushes
/// are larger bursts on the disk that the appender syncs to.
pub(super) const WRITE_BUFFER: usize = 16 * MIB;

/// How many of them bound the memory for frames that are not in a file yet; see
/// `wal::Config::most_unflushed`.
pub(super) const WRITE_BUFFERS: i32 = 8;

/// What a start knows about the store it opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opening {
    /// It is whole.
    Whole,
    /// An operator has said that log files may be missing.
    Salvaged,
}

/// The whole store.
pub(super) fn database(opening: Opening) -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    // `preflight` has cut a torn tail before this, and refused what is damaged. What is left to
    // this option is to refuse what should not be there any more, where "point in time" would
    // lose what follows it in silence.
    options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
    // Without it, a log file that is gone opens as a store with records silently missing.
    options.set_track_and_verify_wals_in_manifest(opening == Opening::Whole);
    options.set_paranoid_checks(true);
    // A column family with a few tiny writes a second would otherwise pin log files for hours,
    // gigabytes of them: flush all families together, and at the latest at this much log.
    options.set_atomic_flush(true);
    options.set_max_total_wal_size(1024 * MIB as u64);
    // Hand flushed and compacted data to the disk evenly, not in one burst at the end.
    options.set_bytes_per_sync(MIB as u64);
    // One flush and one compaction at a time; compactions are file moves here.
    options.set_max_background_jobs(2);
    // One thread writes, so neither helps, and both weaken what a finished write means.
    options.set_enable_pipelined_write(false);
    options.set_unordered_write(false);
    // A write that returns has reached the log file.
    options.set_manual_wal_flush(false);
    // A recycled log file ends in old records: a torn tail could not be told from them.
    options.set_recycle_log_file_num(0);
    // zstd in the log costs four times the appender's CPU.
    options.set_wal_compression_type(DBCompressionType::None);
    // The appender is one thread: nothing to spin for.
    options.set_enable_write_thread_adaptive_yield(false);
    options.set_allow_concurrent_memtable_write(false);
    options.set_keep_log_file_num(4);
    options.set_max_log_file_size(16 * MIB);
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    // Bounds the memory that table readers take, whatever the backlog.
    options.set_max_open_files(512);
    options
}

/// The column families.
pub(super) fn families() -> Vec<ColumnFamilyDescriptor> {
    // Bounds what all readers together keep of tables.
    let cache = Cache::new_lru_cache(16 * MIB);
    let family = |name: &&str| {
        let options = if *name == keys::RECORDS { records(&cache) } else { small(&cache) };
        ColumnFamilyDescriptor::new(*name, options)
    };
    keys::ALL.iter().map(family).collect()
}

/// A small family that is made while the store is open, with a cache of its own until the next start.
pub(super) fn small_family() -> Options {
    small(&Cache::new_lru_cache(MIB))
}

fn tables(cache: &Cache, block: usize) -> BlockBasedOptions {
    let mut tables = BlockBasedOptions::default();
    tables.set_block_size(block);
    tables.set_block_cache(cache);
    // Indexes count against the cache: with a long backlog they would be unbounded otherwise.
    tables.set_cache_index_and_filter_blocks(true);
    tables
}

/// Frames: written once, in ascending order, read in that order, dropped by files.
fn records(cache: &Cache) -> Options {
    let mut options = Options::default();
    options.set_compaction_style(DBCompactionStyle::Level);
    // One compression everywhere: a move between levels then never has to rewrite a file.
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_compression_per_level(&[DBCompressionType::Lz4; 7]);
    options.set_num_levels(7);
    options.set_write_buffer_size(WRITE_BUFFER);
    options.set_max_write_buffer_number(WRITE_BUFFERS);
    options.set_min_write_buffer_number_to_merge(1);
    // Files have to leave level 0 before they can be deleted by range.
    options.set_level_zero_file_num_compaction_trigger(1);
    // Nothing overlaps, so a long level 0 costs nothing: never slow the appender for it.
    options.set_level_zero_slowdown_writes_trigger(1 << 20);
    options.set_level_zero_stop_writes_trigger(1 << 20);
    options.set_soft_pending_compaction_bytes_limit(0);
    options.set_hard_pending_compaction_bytes_limit(0);
    options.set_target_file_size_base(WRITE_BUFFER as u64);
    options.set_disable_auto_compactions(false);
    // No rewriting by age.
    options.set_ttl(0);
    options.set_periodic_compaction_seconds(0);
    // Frames are read in long runs and never looked up: large blocks, no bloom filter.
    options.set_block_based_table_factory(&tables(cache, 64 * 1024));
    options
}

/// Everything else is small.
fn small(cache: &Cache) -> Options {
    let mut options = Options::default();
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_write_buffer_size(8 * MIB);
    options.set_max_write_buffer_number(4);
    options.set_block_based_table_factory(&tables(cache, 16 * 1024));
    options
}

/// P1: a write that returns has been fsynced, unless the configuration says otherwise.
pub(super) fn write(sync: Sync) -> WriteOptions {
    let mut options = WriteOptions::default();
    options.set_sync(sync == Sync::Now);
    options.disable_wal(false);
    options
}

/// A scan over `[from, until)`.
pub(super) fn scan(from: &[u8], until: &[u8]) -> ReadOptions {
    let mut options = ReadOptions::default();
    options.set_iterate_lower_bound(from);
    options.set_iterate_upper_bound(until);
    // What is read in passing must not push out what is looked up.
    options.fill_cache(false);
    options.set_verify_checksums(true);
    options
}

/// A scan over everything.
pub(super) fn whole() -> ReadOptions {
    let mut options = ReadOptions::default();
    options.fill_cache(false);
    options.set_verify_checksums(true);
    options
}
