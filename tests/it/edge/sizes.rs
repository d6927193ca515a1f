//! F24: requests that are too large: refused before they are held in memory, and the connection with them.

use std::io::Write;
use std::net::Shutdown;
use std::time::{Duration, Instant};

use remit_tests::raw;

use super::{answers, exchange, head, resident, served};

const MIB: usize = 1 << 20;

#[test]
fn f24_what_is_too_large_is_refused_before_it_is_held() {
    let server = served(&[]);
    let head = head(&server);
    let many = (0..200).fold(String::new(), |all, n| format!("{all}X-{n}: 1\r\n"));
    let long = "x".repeat(20_000);
    let bundle = head.replace("POST /access/v1/evaluation", "PUT /v1/bundle");
    for (what, request, status) in [
        (
            "a question of 3 MB, of which nothing is sent",
            format!("{head}Content-Length: 3000000\r\n\r\n"),
            413,
        ),
        (
            "a length that no machine has",
            format!("{head}Content-Length: 18446744073709551615\r\n\r\n"),
            // The largest lengths are marks of hyper's own; it calls them too large and closes.
            431,
        ),
        (
            "a length of a terabyte",
            format!("{head}Content-Length: 1099511627776\r\n\r\n"),
            413,
        ),
        (
            "a bundle of 65 MiB, of which nothing is sent",
            format!(
                "{bundle}If-Match: *\r\nContent-Length: {}\r\n\r\n",
                65 * MIB
            ),
            413,
        ),
        ("200 fields", format!("{head}{many}\r\n"), 431),
        ("a field of 20 kB", format!("{head}X: {long}\r\n\r\n"), 431),
        (
            "the name of a field of 20 kB",
            format!("{head}{long}: x\r\n\r\n"),
            431,
        ),
        (
            "a target of 20 kB",
            format!("GET /{long} HTTP/1.1\r\nHost: x\r\n\r\n"),
            431,
        ),
        (
            "a method without end",
            format!("{} / HTTP/1.1\r\nHost: x\r\n\r\n", "A".repeat(20_000)),
            431,
        ),
    ] {
        let began = Instant::now();
        let came = exchange(&server, request);
        assert_eq!(came.statuses(), [status], "{what}: {}", came.text());
        assert!(came.closed, "{what}: the connection stays open");
        assert!(
            began.elapsed() < Duration::from_secs(4),
            "{what}: only a time limit ended it"
        );
    }
    answers(&server);
}

/// A body in chunks says nothing of its length, so it is cut off where the limit is.
#[test]
fn f24_a_body_without_a_length_is_cut_off_at_the_limit() {
    let server = served(&[]);
    let mut socket = raw::connect(raw::address(&server.url));
    socket
        .write_all(format!("{}Transfer-Encoding: chunked\r\n\r\n", head(&server)).as_bytes())
        .unwrap();
    let chunk = format!("10000\r\n{}\r\n", " ".repeat(1 << 16));
    let mut sent = 0;
    while sent < 64 * MIB && socket.write_all(chunk.as_bytes()).is_ok() {
        sent += chunk.len();
    }
    // What the kernel holds between the two is not ours to limit.
    assert!(sent < 32 * MIB, "{sent} bytes of a body were taken");
    let _ = socket.shutdown(Shutdown::Write);
    let came = raw::read_to_end(&mut socket);
    // A reset may overtake the answer: the client was told to stop by either.
    assert!(
        came.statuses().is_empty() || came.statuses() == [413],
        "{}",
        came.text()
    );
    assert!(came.closed);
    answers(&server);
}

/// One large chunk after the other, the size of each announced first.
#[test]
fn f24_a_chunk_is_not_held_before_it_comes() {
    let server = served(&[]);
    let before = resident(&server);
    let request = format!(
        "{}Transfer-Encoding: chunked\r\n\r\n7fffffffffffffff\r\n{{",
        head(&server)
    );
    let sockets: Vec<_> = (0..50)
        .map(|_| {
            let mut socket = raw::connect(raw::address(&server.url));
            socket.write_all(request.as_bytes()).unwrap();
            socket
        })
        .collect();
    answers(&server);
    let grown = resident(&server).saturating_sub(before);
    assert!(grown < 64 * MIB, "50 announcements took {grown} bytes");
    drop(sockets);
    answers(&server);
}
