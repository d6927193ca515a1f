//! F25: clients that are slow on purpose: they are cut off in time, and cost a healthy one nothing.

use std::io::Write;
use std::time::{Duration, Instant};

use remit_tests::raw;

use super::{PERMITTED, answers, head, served};

/// How many slow sockets of each kind.
const EACH: usize = 100;
/// Each deadline of the server; the default ones are longer, and the same code.
const DEADLINE: &str = "2000";

#[test]
fn f25_slow_sockets_are_cut_off_while_a_healthy_client_is_served() {
    let server = served(&[
        ("REMIT__LIMITS__HEADER_DEADLINE_MS", DEADLINE),
        ("REMIT__LIMITS__BODY_DEADLINE_MS", DEADLINE),
        ("REMIT__LIMITS__IDLE_DEADLINE_MS", DEADLINE),
    ]);
    let head = head(&server);
    let length = PERMITTED.len();
    let whole = format!("{head}Content-Length: {length}\r\n\r\n{PERMITTED}");
    let body = format!("{head}Content-Length: {length}\r\n\r\n{{");
    let chunks = format!("{head}Transfer-Encoding: chunked\r\n\r\n1\r\n{{\r\n");
    // What is sent at once, and what then trickles.
    let kinds: [(&str, &str, &str); 5] = [
        ("says nothing", "", ""),
        (
            "a head that trickles",
            "POST /access/v1/evaluation HTTP/1.1\r\nX: ",
            "a",
        ),
        ("a body that trickles", &body, " "),
        ("chunks that trickle", &chunks, "1\r\n \r\n"),
        ("idle after an answer", &whole, ""),
    ];
    let began = Instant::now();
    let mut sockets = Vec::new();
    for (what, first, drip) in kinds {
        for _ in 0..EACH {
            let mut socket = raw::connect(raw::address(&server.url));
            socket.write_all(first.as_bytes()).unwrap();
            sockets.push((what, drip, socket));
        }
    }
    let mut slowest = Duration::ZERO;
    let mut asked = 0;
    while began.elapsed() < Duration::from_secs(6) {
        for (_, drip, socket) in &mut sockets {
            // Refused once the server has closed it.
            let _ = socket.write_all(drip.as_bytes());
        }
        let one = Instant::now();
        answers(&server);
        slowest = slowest.max(one.elapsed());
        asked += 1;
        std::thread::sleep(Duration::from_millis(200));
    }
    assert!(
        slowest < Duration::from_secs(10),
        "a healthy client waited {slowest:?}"
    );
    for (what, _, mut socket) in sockets {
        // It was closed long ago, or it is not within the patience of this.
        let came = raw::read_to_end(&mut socket);
        assert!(came.closed, "{what}: still open");
        let allowed: &[u16] = if what.starts_with("idle") {
            &[200]
        } else {
            &[400, 408]
        };
        assert!(
            came.statuses()
                .iter()
                .all(|status| allowed.contains(status)),
            "{what}: {}",
            came.text()
        );
    }
    println!(
        "slow sockets: {} cut off, {asked} healthy requests answered, slowest {} ms",
        EACH * kinds.len(),
        slowest.as_millis()
    );
}
