//! The limits: what no decision service over HTTP and JSON can be cheaper than, served by this program itself.

use std::convert::Infallible;
use std::fs;
use std::path::Path;

use axum::body::Bytes;
use axum::routing::post;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpListener;

/// The answer of both, whatever is asked.
const ANSWER: &str = r#"{"decision":true}"#;

/// A question as a struct, the context included: parsing into it is the work that is measured.
#[derive(Deserialize)]
#[expect(dead_code, reason = "parsing into it is the work that is measured")]
struct Body {
    subject: Party,
    action: Action,
    resource: Party,
    context: Context,
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "parsing into it is the work that is measured")]
struct Party {
    #[serde(rename = "type")]
    kind: String,
    id: String,
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "parsing into it is the work that is measured")]
struct Action {
    name: String,
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "parsing into it is the work that is measured")]
struct Context {
    environment: String,
    data_class: i64,
    minute: i64,
    approved: bool,
}

/// Serves one of them until this process is ended, and writes its address into a file.
pub fn serve(which: &str, ready: &Path) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        // Renamed into place, so that nobody reads half an address.
        let partial = ready.with_extension("partial");
        fs::write(&partial, address).expect("the ready file");
        fs::rename(&partial, ready).expect("the ready file");
        // On a worker, where a server's accept loop is.
        let serving = match which {
            "hyper" => tokio::spawn(hyper(listener)),
            _ => tokio::spawn(axum(listener)),
        };
        serving.await.expect("serving");
    });
}

/// Raw hyper: reads the body and answers.
async fn hyper(listener: TcpListener) {
    let answer = |request: Request<Incoming>| async {
        let _ = request.into_body().collect().await;
        let mut response = Response::new(Full::new(Bytes::from_static(ANSWER.as_bytes())));
        let json = hyper::header::HeaderValue::from_static("application/json");
        response.headers_mut().insert(CONTENT_TYPE, json);
        Ok::<_, Infallible>(response)
    };
    while let Ok((stream, _)) = listener.accept().await {
        let _ = stream.set_nodelay(true);
        tokio::spawn(async move {
            let io = TokioIo::new(stream);
            let _ = http1::Builder::new()
                .serve_connection(io, service_fn(answer))
                .await;
        });
    }
}

/// axum: parses the body into a struct and answers.
async fn axum(listener: TcpListener) {
    async fn answer(body: Bytes) -> ([(&'static str, &'static str); 1], &'static str) {
        let parsed = serde_json::from_slice::<Body>(&body).is_ok();
        let answer = if parsed {
            ANSWER
        } else {
            r#"{"decision":false}"#
        };
        ([("content-type", "application/json")], answer)
    }
    let router = axum::Router::new().route("/access/v1/evaluation", post(answer));
    let listener = axum::serve::ListenerExt::tap_io(listener, |stream| {
        let _ = stream.set_nodelay(true);
    });
    axum::serve(listener, router).await.expect("serving");
}
