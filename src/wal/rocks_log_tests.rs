use proptest::prelude::*;

use super::*;

/// A write batch as far as this module looks: sequence, count, and some bytes.
fn batch(sequence: u64, count: u32, body: usize) -> Vec<u8> {
    let mut batch = sequence.to_le_bytes().to_vec();
    batch.extend_from_slice(&count.to_le_bytes());
    batch.extend((0..body).map(|n| u8::try_from(n % 251).unwrap()));
    batch
}

/// A log of batches with bodies of these sizes, and where each record begins.
fn log(bodies: &[usize]) -> (Vec<u8>, Vec<usize>) {
    let (mut bytes, mut starts) = (Vec::new(), Vec::new());
    let mut at = 0;
    for (n, body) in (0u64..).zip(bodies) {
        let left = BLOCK - at % BLOCK;
        starts.push(bytes.len() + if left < HEADER { left } else { 0 });
        let mut writer = Writer { to: &mut bytes, at: at % BLOCK };
        writer.append(&batch(10 + 2 * n, 2, *body)).unwrap();
        at = bytes.len();
    }
    (bytes, starts)
}

fn look(bytes: &[u8]) -> Survey {
    walk(bytes, 7, Content::Batches, None).unwrap()
}

#[test]
fn a_log_that_is_whole_is_whole() {
    let sizes = [0, 1, 5000, 100_000, 3, BLOCK - HEADER - BATCH_HEAD, 70_000];
    let (bytes, starts) = log(&sizes);
    let found = look(&bytes);
    let len = bytes.len() as u64;
    assert_eq!(found, Survey { len, whole: len, records: 7, ..Survey::default() });
    assert_eq!(starts.len(), 7);
    assert_eq!(look(b""), Survey::default());
}

#[test]
fn every_cut_is_a_torn_tail_and_never_damage() {
    let (bytes, starts) = log(&[100, 40_000, 20, 300]);
    for cut in 1..bytes.len() {
        let found = look(&bytes[..cut]);
        let whole = starts.iter().skip(1).take_while(|start| **start <= cut).count();
        let whole_end = starts[whole] as u64;
        assert_eq!((found.records, found.behind), (whole as u64, 0), "cut at {cut}");
        if cut as u64 > whole_end {
            assert_eq!((found.broken, found.cut), (Some(whole_end), true), "cut at {cut}");
        }
    }
}

#[test]
fn a_flipped_bit_is_damage_unless_it_is_in_the_last_record() {
    let (bytes, starts) = log(&[100, 40_000, 20, 300]);
    for at in 0..bytes.len() {
        for bit in [0, 2, 7] {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1 << bit;
            let found = look(&bytes);
            let hit = starts.iter().rposition(|start| *start <= at).unwrap();
            assert_eq!(found.broken, Some(starts[hit] as u64), "byte {at}, bit {bit}");
            assert_eq!(found.records, hit as u64, "byte {at}, bit {bit}");
            assert_eq!(found.behind > 0, hit < 3, "byte {at}, bit {bit}: {found:?}");
        }
    }
}

#[test]
fn zeros_in_the_middle_are_damage_and_at_the_end_a_torn_tail() {
    let (mut bytes, starts) = log(&[100, 40_000, 20, 300]);
    let end = bytes.len();
    bytes.extend_from_slice(&[0; 100_000]);
    let found = look(&bytes);
    assert_eq!((found.broken, found.records, found.behind), (Some(end as u64), 4, 0));
    bytes.truncate(end);
    bytes[starts[1]..starts[2]].fill(0);
    let found = look(&bytes);
    assert_eq!((found.broken, found.behind), (Some(starts[1] as u64), 2));
}

#[test]
fn a_record_that_is_missing_without_a_trace_is_noticed() {
    let (bytes, starts) = log(&[100, 200, 300]);
    let mut without = bytes[..starts[1]].to_vec();
    without.extend_from_slice(&bytes[starts[2]..]);
    let found = look(&without);
    assert_eq!((found.records, found.broken, found.behind), (1, Some(starts[1] as u64), 1));
}

#[test]
fn a_body_that_looks_like_a_log_is_not_taken_for_one() {
    // A torn record whose payload holds a whole log of later batches, followed by more payload.
    let (inner, _) = log(&[10, 20]);
    let mut payload = batch(10, 2, 100);
    payload.extend_from_slice(&inner);
    payload.extend_from_slice(&[b'x'; 500]);
    let mut bytes = Vec::new();
    Writer { to: &mut bytes, at: 0 }.append(&payload).unwrap();
    Writer { to: &mut bytes, at: 0 }.append(&batch(12, 1, 1000)).unwrap();
    // Damage in its first bytes; the file goes on behind it with another block.
    bytes.resize(BLOCK, 0);
    bytes[8] ^= 1;
    let found = look(&bytes);
    assert_eq!(found.broken, Some(0));
    let behind = payload.len() as u64;
    assert!(found.first_behind.is_none_or(|at| at >= behind), "{found:?}");
}

#[test]
fn recyclable_records_are_read_and_those_of_another_file_are_not() {
    let payload = batch(1, 1, 50);
    let record = |number: u32| {
        let mut covered = vec![5];
        covered.extend_from_slice(&number.to_le_bytes());
        covered.extend_from_slice(&payload);
        let mut bytes = masked(crc32c(&covered)).to_le_bytes().to_vec();
        bytes.extend_from_slice(&u16::try_from(payload.len()).unwrap().to_le_bytes());
        bytes.extend_from_slice(&covered);
        bytes
    };
    assert_eq!((look(&record(7)).records, look(&record(7)).broken), (1, None));
    assert_eq!((look(&record(8)).records, look(&record(8)).broken), (0, Some(0)));
}

#[test]
fn what_is_whole_is_salvaged() {
    let (bytes, starts) = log(&[100, 40_000, 20, 300]);
    let mut damaged = bytes;
    damaged[starts[1] + 50] ^= 4;
    let mut kept = Vec::new();
    let mut salvaged = Vec::new();
    let mut keep = |record: &[u8]| {
        kept.push(record.to_vec());
        Writer { to: &mut salvaged, at: 0 }.append(record)
    };
    walk(&damaged[..], 7, Content::Batches, Some(&mut keep)).unwrap();
    assert_eq!(kept, [batch(10, 2, 100), batch(14, 2, 20), batch(16, 2, 300)]);
    // What is written is a log.
    let mut out = Vec::new();
    let mut writer = Writer { to: &mut out, at: 0 };
    kept.iter().for_each(|record| writer.append(record).unwrap());
    let mut again = Vec::new();
    let mut keep = |record: &[u8]| {
        again.push(record.to_vec());
        Ok(())
    };
    walk(&out[..], 7, Content::Edits, Some(&mut keep)).unwrap();
    assert_eq!(again, kept);
}

proptest! {
    #[test]
    fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..3000)) {
        let found = look(&bytes);
        prop_assert_eq!(found.len, bytes.len() as u64);
        prop_assert!(found.whole <= found.len);
        prop_assert!(found.broken.is_some() || bytes.is_empty() || found.whole > 0);
    }

    #[test]
    fn what_is_written_is_read(
        bodies in proptest::collection::vec(0usize..70_000, 0..8),
    ) {
        let (bytes, _) = log(&bodies);
        let found = look(&bytes);
        prop_assert_eq!((found.records, found.broken), (bodies.len() as u64, None));
    }
}
