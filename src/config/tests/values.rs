//! Each rule about a value, or a pair of them, with its exact message.

use super::{check, in_destination, parse, right, with_minimal};

#[test]
fn sizes() {
    check(
        with_minimal,
        &[
            (
                "[ingest]\nmax_body = \"8Mb\"",
                "2: ingest.max_body: \"8Mb\" is not a size; write a whole number and a unit, such as 8MiB",
            ),
            (
                "ingest.max_body = 8",
                "1: ingest.max_body: 8 is not a size; write a whole number and a unit, in quotes, such as \"8MiB\"",
            ),
            (
                "ingest.max_body = true",
                "1: ingest.max_body: true is not a size; write a text in quotes, such as \"8MiB\"",
            ),
            (
                "ingest.max_body = \"99999999999999999999B\"",
                "1: ingest.max_body: \"99999999999999999999B\" is not a size; write at most 64MiB",
            ),
            (
                "ingest.max_body = \"1023KiB\"",
                "1: ingest.max_body: \"1023KiB\" is too little; write at least 1MiB",
            ),
            (
                "ingest.max_body = \"65MiB\"",
                "1: ingest.max_body: \"65MiB\" is too much; write at most 64MiB",
            ),
            (
                "wal.segment_size = \"1MB\"",
                "1: wal.segment_size: \"1MB\" is too little; write at least 1MiB",
            ),
            (
                "wal.segment_size = \"5GiB\"",
                "1: wal.segment_size: \"5GiB\" is too much; write at most 4GiB",
            ),
            (
                "wal.min_free = \"255MiB\"",
                "1: wal.min_free: \"255MiB\" is too little; write at least 256MiB",
            ),
            (
                "wal.max_size = \"128GB\"\nwal.segment_size = \"1TB\"",
                "2: wal.segment_size: \"1TB\" is too much; write at most 4GiB",
            ),
        ],
    );
    check(
        in_destination,
        &[
            (
                "batch.max_bytes = \"9KB\"\nevent.max_bytes = \"5KB\"",
                "4: destination.batch.max_bytes: \"9KB\" is too little; write at least 10KB",
            ),
            (
                "batch.max_bytes = \"101MB\"",
                "4: destination.batch.max_bytes: \"101MB\" is too much; write at most 100MB",
            ),
        ],
    );
}

#[test]
fn durations() {
    check(
        with_minimal,
        &[
            (
                "ingest.ack_deadline = \"4\"",
                "1: ingest.ack_deadline: \"4\" is not a duration; write whole numbers with the units d, h, m, s, ms, the largest first, such as 4s",
            ),
            (
                "ingest.ack_deadline = 4",
                "1: ingest.ack_deadline: 4 is not a duration; write a whole number and a unit, in quotes, such as \"4s\"",
            ),
            (
                "ingest.ack_deadline = \"5s\"",
                "1: ingest.ack_deadline: \"5s\" is too much; write at most 4s999ms",
            ),
            (
                "ingest.ack_deadline = \"0s\"",
                "1: ingest.ack_deadline: \"0s\" is too little; write at least 1ms",
            ),
            (
                "ingest.idle_timeout = \"4m59s\"",
                "1: ingest.idle_timeout: \"4m59s\" is too little; write at least 5m",
            ),
            (
                "wal.durability = \"interval:5ms\"",
                "1: wal.durability: the interval in \"interval:5ms\" is out of bounds; write an interval from 10ms to 1m, such as \"interval:100ms\"",
            ),
            (
                "wal.durability = \"interval\"",
                "1: wal.durability: \"interval\" is not \"fsync\", \"interval:\" with a duration, or \"none\"; write \"fsync\", or, to lose up to that much in a power cut, such as \"interval:100ms\"",
            ),
            (
                "wal.when_full = \"drop_newest\"",
                "1: wal.when_full: \"drop_newest\" is not one of \"hold\", \"drop_oldest\"; write one of \"hold\", \"drop_oldest\"",
            ),
            (
                "wal.retention = \"99999999999999999999d\"",
                "1: wal.retention: \"99999999999999999999d\" is not a duration; write at most 366d",
            ),
        ],
    );
}

#[test]
fn numbers_and_flags() {
    check(
        in_destination,
        &[
            (
                "lanes = 0",
                "4: destination.lanes: 0 is not a whole number from 1 to 64; write one, such as 2",
            ),
            (
                "lanes = -1",
                "4: destination.lanes: -1 is not a whole number from 1 to 64; write one, such as 2",
            ),
            (
                "lanes = 2.0",
                "4: destination.lanes: 2.0 is not a whole number from 1 to 64; write one, such as 2",
            ),
            (
                "lanes = \"2\"",
                "4: destination.lanes: \"2\" is not a whole number from 1 to 64; write one without quotes, such as 2",
            ),
            (
                "event.event_id = \"no\"",
                "4: destination.event.event_id: \"no\" is not `true` or `false`; write one of the two without quotes",
            ),
        ],
    );
    assert_eq!(
        right(&format!("{}\nlanes = 0x1_0", super::MINIMAL)).destinations[0]
            .delivery
            .lanes_per_endpoint
            .get(),
        16
    );
}

#[test]
fn addresses() {
    let insecure = "write [ingest.tls] and [[ingest.user]], or listen on 127.0.0.1 or [::1] behind \
                    a TLS proxy, or set ingest.allow_insecure = true if the network is private";
    check(
        with_minimal,
        &[
            (
                "ingest.listen = \"localhost:8080\"",
                "1: ingest.listen: \"localhost:8080\" is neither an IP address and a port nor systemd; write one of them, such as 127.0.0.1:8080",
            ),
            (
                "ingest.listen = \"0.0.0.0:8080\"",
                &format!(
                    "1: ingest.listen: 0.0.0.0:8080 is not a loopback address, without TLS and without a user; {insecure}"
                ),
            ),
            (
                "ingest.listen = \"[2001:db8::1]:8080\"\n[[ingest.user]]\nname = \"a\"\npassword = \"b\"",
                &format!(
                    "1: ingest.listen: [2001:db8::1]:8080 is not a loopback address, without TLS; {insecure}"
                ),
            ),
            (
                "ingest.listen = \"systemd\"",
                &format!(
                    "1: ingest.listen: the service manager may listen for everybody, without TLS and without a user; {insecure}"
                ),
            ),
            (
                "admin.listen = \"0.0.0.0:9600\"",
                "1: admin.listen: 0.0.0.0:9600 is not a loopback address: admin would be open; write 127.0.0.1 or [::1], and a port",
            ),
            (
                "admin.listen = \"unix:admin.sock\"",
                "1: admin.listen: \"unix:admin.sock\" is not an IP address and a port; write an IP address and a port, such as 127.0.0.1:9600, or unix: and an absolute path, such as unix:/run/forebay/admin.sock",
            ),
            (
                "admin.listen = \"127.0.0.1:8080\"",
                "1: admin.listen: port 8080 is `ingest.listen`'s already; choose another port",
            ),
            (
                "ingest.listen = \"127.0.0.1:9600\"",
                "1: admin.listen: port 9600 is `ingest.listen`'s already; choose another port",
            ),
        ],
    );
    let open = parse(&format!(
        "ingest.listen = \"0.0.0.0:80\"\ningest.allow_insecure = true\n{}",
        super::MINIMAL
    ));
    assert_eq!(
        open.expect("allowed").warnings,
        [
            "f.toml:1: ingest.listen: there is no [[ingest.user]]: everybody who can connect to 0.0.0.0:80 may send logs"
        ]
    );
    for listen in ["127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1", "127.0.0.1:0"] {
        right(&format!("ingest.listen = {listen:?}\n{}", super::MINIMAL));
    }
    right(&format!(
        "ingest.listen = \"127.0.0.1:0\"\nadmin.listen = \"127.0.0.1:0\"\n{}",
        super::MINIMAL
    ));
}

#[test]
fn paths() {
    check(
        with_minimal,
        &[
            (
                "ingest.path = \"logs\"",
                "1: ingest.path: \"logs\" does not begin with `/`; write a path that begins with `/`, such as /logs",
            ),
            (
                "ingest.path = \"/logs?a=b\"",
                "1: ingest.path: \"/logs?a=b\" has a query or a fragment; end it before the `?` or `#`",
            ),
            (
                "ingest.path = \"/lo gs\"",
                "1: ingest.path: \"/lo gs\" has characters that no path has; write a path that begins with `/`, such as /logs",
            ),
            (
                "data_dir = \"data\"",
                "1: data_dir: \"data\" is not an absolute path; begin it with `/`, or with `${PWD}/` for the directory forebay is started in",
            ),
            (
                "data_dir = 7",
                "1: data_dir: 7 is not a text; write a text in quotes, such as \"/var/lib/forebay\"",
            ),
        ],
    );
}

#[test]
fn pairs_that_do_not_fit() {
    check(
        with_minimal,
        &[
            (
                "[ingest]\nmax_body = \"40MiB\"",
                "2: ingest.max_in_flight: 64MiB is less than four times ingest.max_body (40MiB); write at least 160MiB, or make ingest.max_body smaller",
            ),
            (
                "[ingest]\nmax_in_flight = \"15MiB\"",
                "2: ingest.max_in_flight: 15MiB is less than four times ingest.max_body (8MiB); write at least 32MiB, or make ingest.max_body smaller",
            ),
            (
                "[ingest]\nmax_body = \"16MiB\"\n[wal]\nmin_free = \"256MiB\"",
                "4: wal.min_free: 256MiB is less than what may still have to go into table files when bodies have up to 16MiB (ingest.max_body); write at least 288MiB, or make ingest.max_body smaller",
            ),
            (
                "[wal]\nmax_size = \"200MiB\"",
                "2: wal.segment_size: 128MiB is more than half of wal.max_size (200MiB); write at most 100MiB, or make wal.max_size larger",
            ),
        ],
    );
    check(
        in_destination,
        &[
            (
                "retry_max = \"100ms\"",
                "4: destination.retry_max: 100ms is less than destination.retry_initial (250ms); write at least 250ms, or a shorter retry_initial",
            ),
            (
                "batch.max_bytes = \"500KB\"",
                "4: destination.event.max_bytes: 1MB is more than destination.batch.max_bytes (500KB); write at most 500KB, or make batch.max_bytes larger",
            ),
        ],
    );
}
