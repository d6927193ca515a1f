//! Traces: exported only when the standard variables ask for it, and in the caller's trace.

use std::net::TcpListener;

use crate::cli::folder;
use crate::serve::Server;

#[test]
fn traces_go_where_the_standard_variables_say() {
    use std::io::{Read, Write};
    let collector = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", collector.local_addr().unwrap());
    // Takes whatever is posted, and hands the bodies over.
    let (sender, received) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for stream in collector.incoming() {
            let mut stream = stream.unwrap();
            let mut request = Vec::new();
            let mut buffer = [0; 4096];
            while let Ok(taken) = stream.read(&mut buffer) {
                request.extend_from_slice(&buffer[..taken]);
                let text = String::from_utf8_lossy(&request);
                let length = text
                    .to_lowercase()
                    .split("content-length: ")
                    .nth(1)
                    .and_then(|rest| {
                        rest.split("\r\n")
                            .next()
                            .and_then(|digits| digits.parse::<usize>().ok())
                    });
                let head = request.windows(4).position(|window| window == b"\r\n\r\n");
                if taken == 0
                    || head
                        .zip(length)
                        .is_some_and(|(head, length)| request.len() >= head + 4 + length)
                {
                    break;
                }
            }
            // Before the answer, after which the server may end and the test may look.
            if sender.send(request).is_err() {
                return;
            }
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                .unwrap();
        }
    });
    let server = Server::start(
        folder(),
        &["serve", "--dev", "--listen", "127.0.0.1:0"],
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint),
            ("OTEL_SERVICE_NAME", "remit-under-test"),
        ],
    );
    let host = server.url.strip_prefix("http://").unwrap().to_owned();
    let body = r#"{"subject":{"type":"Agent","id":"invoice-bot"},"action":{"name":"call"},"resource":{"type":"Tool","id":"mail.list"}}"#;
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let mut stream = std::net::TcpStream::connect(&host).unwrap();
    write!(
        stream,
        "POST /access/v1/evaluation HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
         traceparent: 00-{trace}-b7ad6b7169203331-01\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        server.key,
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    // Stopping sends what is still in memory.
    assert_eq!(server.stop().0, Some(0));
    let sent: Vec<u8> = received.try_iter().flatten().collect();
    let contains = |bytes: &[u8]| sent.windows(bytes.len()).any(|window| window == bytes);
    assert!(contains(b"POST /v1/traces"), "nothing was exported");
    assert!(contains(b"remit-under-test") && contains(b"POST /access/v1/evaluation"));
    let id: Vec<u8> = (0..32)
        .step_by(2)
        .map(|at| u8::from_str_radix(&trace[at..at + 2], 16).unwrap())
        .collect();
    assert!(contains(&id), "the span is not in the caller's trace");
}
