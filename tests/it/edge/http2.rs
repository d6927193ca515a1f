//! F27: HTTP/2 is not offered: whoever begins it anyway is refused at once, and what they send is not held.

use std::io::Write;
use std::time::Duration;

use remit_tests::raw;

use super::{PERMITTED, answers, exchange, head, resident, served};

/// How every HTTP/2 connection begins (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// A request's fields by their static index, and a literal path (RFC 7541).
const FIELDS: &[u8] = b"\x83\x86\x84\x41\x01x";

/// Writes one frame (RFC 9113 §4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// What has taken down servers that do speak it.
fn floods() -> Vec<(&'static str, Vec<u8>)> {
    let settings = frame(4, 0, 0, &[]);
    let begin = [PREFACE, settings.as_slice()].concat();
    let streams = (0..2_000_u32).map(|number| number * 2 + 1);
    let reset: Vec<u8> = streams
        .flat_map(|stream| {
            [
                frame(1, 4, stream, FIELDS),
                frame(3, 0, stream, &[0, 0, 0, 8]),
            ]
            .concat()
        })
        .collect();
    let continued: Vec<u8> = (0..2_000)
        .flat_map(|_| frame(9, 0, 1, &[0x40; 64]))
        .collect();
    let empty: Vec<u8> = (0..20_000).flat_map(|_| frame(0, 0, 1, &[])).collect();
    let pings: Vec<u8> = (0..10_000).flat_map(|_| frame(6, 0, 0, &[0; 8])).collect();
    let headers = frame(1, 0, 1, FIELDS);
    vec![
        ("the preface alone", PREFACE.to_vec()),
        ("the preface and settings", begin.clone()),
        ("rapid reset", [begin.clone(), reset].concat()),
        (
            "continuation without end",
            [begin.clone(), headers.clone(), continued].concat(),
        ),
        ("empty data", [begin.clone(), headers, empty].concat()),
        ("pings", [begin, pings].concat()),
    ]
}

#[test]
fn f27_http2_is_refused_at_once_and_holds_no_memory() {
    let server = served(&[]);
    let refused =
        |came: &raw::Exchange| came.closed && came.statuses().iter().all(|status| *status == 400);
    for (what, bytes) in floods() {
        let came = exchange(&server, &bytes);
        assert!(refused(&came), "{what}: {}", came.text());
        assert!(
            came.took < Duration::from_secs(4),
            "{what}: only a time limit ended it"
        );
        // No frame of HTTP/2 ever comes back.
        assert!(!came.bytes.starts_with(&[0, 0]), "{what}: {:?}", came.bytes);
    }
    let before = resident(&server);
    let (_, rapid) = floods().remove(2);
    for _ in 0..200 {
        let mut socket = raw::connect(raw::address(&server.url));
        let _ = socket.write_all(&rapid);
    }
    answers(&server);
    let grown = resident(&server).saturating_sub(before);
    assert!(grown < 32 << 20, "200 floods left {grown} bytes behind");
}

#[test]
fn f27_an_upgrade_to_http2_is_not_made() {
    let server = served(&[]);
    let settings = "AAMAAABkAAQCAAAAAAIAAAAA";
    let request = format!(
        "{}Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: {settings}\r\nContent-Length: {}\r\n\r\n{PERMITTED}",
        head(&server),
        PERMITTED.len()
    );
    let mut socket = raw::connect(raw::address(&server.url));
    socket.write_all(request.as_bytes()).unwrap();
    let answer = raw::read_one(&mut socket).unwrap();
    // Answered as what it is besides, an HTTP/1.1 request (RFC 9110 §7.8).
    assert_eq!((answer.status, answer.header("upgrade")), (200, ""));
    socket.write_all(PREFACE).unwrap();
    let came = raw::read_to_end(&mut socket);
    assert!(came.closed && came.statuses().iter().all(|status| *status == 400));
    // The hello of TLS is no request either.
    let came = exchange(&server, b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03");
    assert!(
        came.closed && came.statuses().iter().all(|status| *status == 400),
        "{}",
        came.text()
    );
    answers(&server);
}
