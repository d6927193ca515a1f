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
    let mut asked = Vec::new();
    let mut trickling = usize::MAX;
    while began.elapsed() < Duration::from_secs(6) || trickling > 0 {
        assert!(
            began.elapsed() < raw::PATIENCE,
            "{trickling} are still open"
        );
        trickling = 0;
        for (_, drip, socket) in &mut sockets {
            // Refused once the server has closed it.
            let open = !drip.is_empty() && socket.write_all(drip.as_bytes()).is_ok();
            trickling += usize::from(open);
        }
        let one = Instant::now();
        answers(&server);
        asked.push(one.elapsed());
        std::thread::sleep(Duration::from_millis(200));
    }
    asked.sort_unstable();
    assert!(
        asked[asked.len() / 2] < Duration::from_secs(1),
        "healthy clients waited: {asked:?}"
    );
    for (what, _, mut socket) in sockets {
        let wait = Instant::now();
        let came = raw::read_to_end(&mut socket);
        assert!(came.closed, "{what}: still open");
        assert!(
            wait.elapsed() < Duration::from_secs(2),
            "{what}: closed late"
        );
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
        "slow sockets: {} cut off, {} healthy requests answered, slowest {} ms",
        EACH * kinds.len(),
        asked.len(),
        asked[asked.len() - 1].as_millis()
    );
}
