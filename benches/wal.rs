//! What the log takes: synced appends by the number of producers that wait for their answer, and
//! a scan. The figures beside it are the disk's own, a 13 KB append with its fdatasync, and those of
//! a bare committer: the least that one thread on RocksDB has to do for the same promise.
#![expect(clippy::unwrap_used, reason = "a bench that cannot set itself up has nothing to say")]

mod parts;

use std::io::Write as _;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use forebay::types::{ByteSize, Offset};
use forebay::wal::Wal;
use parts::{config, new_frame};
use rocksdb::{DB, DBCompressionType, Options, WriteBatch, WriteOptions};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// Bytes of a frame: the mean of the record sizes that `docs/benchmarks.md` compares with.
const FRAME: usize = 13_000;

/// Log text that compresses as log text does.
fn body(seed: u64) -> Bytes {
    let mut body = Vec::with_capacity(FRAME);
    let mut n = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    while body.len() < FRAME {
        n = n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let line = format!(
            "<158>1 2026-01-02T03:04:05.000001+00:00 host heroku router - at=info method=GET \
             path=\"/carts/{n}\" host=shop.example.com request_id={n:x} fwd=\"10.1.2.3\" \
             dyno=web.{} connect=0ms service={}ms status=200 bytes={}\n",
            n % 9,
            n % 700,
            n % 9000
        );
        write!(body, "{} {line}", line.len()).unwrap();
    }
    Bytes::from(body)
}

async fn producers(wal: &Wal, producers: u64, frames: u64, first: u64, body: &Bytes) {
    let mut tasks = JoinSet::new();
    for producer in 0..producers {
        let (wal, body) = (wal.clone(), body.clone());
        tasks.spawn(async move {
            let mut id = producer;
            while id < frames {
                let prepared = Wal::prepare(new_frame(first + id, 50, &body));
                assert!(!wal.append(prepared, ()).await.unwrap().duplicate);
                id += producers;
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
}

/// A record that waits for the committer.
type Waiting = (Bytes, oneshot::Sender<()>);

/// RocksDB with the options that matter here, and nothing else: one family, keys that ascend, one
/// thread that takes what waits, up to 4 MiB, writes it in one synced batch, and answers.
fn committer(dir: &Path) -> (crossbeam_channel::Sender<Waiting>, std::thread::JoinHandle<()>) {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_write_buffer_size(16 << 20);
    options.set_max_write_buffer_number(8);
    options.set_level_zero_file_num_compaction_trigger(1);
    options.set_level_zero_slowdown_writes_trigger(1 << 20);
    options.set_level_zero_stop_writes_trigger(1 << 20);
    options.set_soft_pending_compaction_bytes_limit(0);
    options.set_hard_pending_compaction_bytes_limit(0);
    options.set_bytes_per_sync(1 << 20);
    options.set_max_background_jobs(2);
    options.set_allow_concurrent_memtable_write(false);
    options.set_enable_write_thread_adaptive_yield(false);
    let db = DB::open(&options, dir.join("bare")).unwrap();
    let (sender, waiting) = crossbeam_channel::bounded::<Waiting>(16 * 1024);
    let thread = std::thread::spawn(move || {
        let mut synced = WriteOptions::default();
        synced.set_sync(true);
        let mut next = 0_u64;
        while let Ok(first) = waiting.recv() {
            let (mut batch, mut answers, mut bytes) = (WriteBatch::default(), Vec::new(), 0);
            let mut taken = Some(first);
            while let Some((record, answer)) = taken {
                batch.put(next.to_be_bytes(), &record);
                next += 1;
                bytes += record.len();
                answers.push(answer);
                taken = if bytes < 4 << 20 { waiting.try_recv().ok() } else { None };
            }
            db.write_opt(batch, &synced).unwrap();
            for answer in answers {
                answer.send(()).unwrap();
            }
        }
    });
    (sender, thread)
}

async fn bare_producers(
    committer: &crossbeam_channel::Sender<Waiting>,
    producers: u64,
    frames: u64,
    body: &Bytes,
) {
    let mut tasks = JoinSet::new();
    for producer in 0..producers {
        let (committer, body) = (committer.clone(), body.clone());
        tasks.spawn(async move {
            let mut id = producer;
            while id < frames {
                let (answer, answered) = oneshot::channel();
                committer.try_send((body.clone(), answer)).unwrap();
                answered.await.unwrap();
                id += producers;
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
}

#[expect(clippy::disallowed_methods, reason = "a bench reads the clock")]
fn append(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let mut group = c.benchmark_group("wal");
    group.sample_size(10).measurement_time(Duration::from_secs(5));
    group.throughput(Throughput::Elements(1));
    group.bench_function("disk/append+fdatasync 13 KB", |b| {
        let dir = tempfile::tempdir().unwrap();
        let mut file = std::fs::File::create(dir.path().join("raw")).unwrap();
        let body = body(1);
        b.iter(|| {
            file.write_all(&body).unwrap();
            file.sync_data().unwrap();
        });
    });
    for count in [1, 8, 64] {
        let dir = tempfile::tempdir().unwrap();
        let (wal, _) =
            Wal::open(config(dir.path(), ByteSize::mib(128), ByteSize::mib(256))).unwrap();
        let (body, mut next) = (body(count), 0);
        group.bench_function(format!("append/{count} producers"), |b| {
            b.iter_custom(|frames| {
                let started = Instant::now();
                runtime.block_on(producers(&wal, count, frames, next, &body));
                next += frames;
                started.elapsed()
            });
        });
        wal.close();
        let (committer, thread) = committer(dir.path());
        group.bench_function(format!("bare committer/{count} producers"), |b| {
            b.iter_custom(|frames| {
                let started = Instant::now();
                runtime.block_on(bare_producers(&committer, count, frames, &body));
                started.elapsed()
            });
        });
        drop(committer);
        thread.join().unwrap();
    }
    group.finish();
}

fn scan(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (wal, _) = Wal::open(config(dir.path(), ByteSize::mib(128), ByteSize::mib(256))).unwrap();
    let frames = 4_000;
    runtime.block_on(producers(&wal, 16, frames, 0, &body(7)));
    let mut group = c.benchmark_group("wal");
    group.sample_size(10);
    group.throughput(Throughput::Bytes(frames * FRAME as u64));
    let reader = wal.reader();
    group.bench_function("scan", |b| {
        b.iter(|| {
            let mut bytes = 0;
            let end = reader
                .read(Offset::ZERO, Offset::new(frames), |entry| {
                    bytes += entry.record.body.len();
                    ControlFlow::Continue(())
                })
                .unwrap();
            assert_eq!(end, Offset::new(frames));
            bytes
        });
    });
    group.finish();
    wal.close();
}

criterion_group!(wal, append, scan);
criterion_main!(wal);
