//! Secrets: a pepper that others can read, and F43, what the time of a refusal tells about a key.

use std::fs;
use std::hint::black_box;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use http::{Request, StatusCode};
use remit_core::KeyId;
use remit_store::{ApiKey, StoredKey};
use remit_tests::app::TestApp;
use remit_tests::bundles::pack;
use remit_tests::root;

use crate::cli::{self, Run};
use crate::serve::write_pepper;

/// Runs a server that must not start; one that does is ended.
fn start(dir: &Path, variables: &[(&str, &str)], arguments: &[&str]) -> Run {
    let mut command = cli::command(dir, arguments);
    command.envs(variables.iter().copied());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            child.kill().unwrap();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let Output {
        status,
        stdout,
        stderr,
    } = child.wait_with_output().unwrap();
    Run {
        code: status.code().unwrap_or(-1),
        stdout: String::from_utf8(stdout).unwrap(),
        stderr: String::from_utf8(stderr).unwrap(),
    }
}

/// Refuse to start: a pepper that every user of the machine can read protects nothing.
#[test]
fn refuse_to_start_with_a_pepper_that_others_can_read() {
    let dir = cli::folder();
    for mode in [0o644, 0o604, 0o602, 0o666] {
        write_pepper(dir.path(), mode);
        let variables = [
            ("REMIT__AUTH__PEPPER_FILE", "pepper"),
            ("REMIT__LISTEN__HTTP", "127.0.0.1:0"),
        ];
        let ran = start(dir.path(), &variables, &["serve"]);
        ran.fails(
            3,
            &[
                "auth.pepper_file",
                "chmod 600 pepper",
                &format!("mode {mode:03o}"),
            ],
        );
        assert!(!ran.stderr.contains("0123456789abcdef"), "{}", ran.stderr);
    }
}

/// The pepper that development makes for itself is as private, and is not used once it is not.
#[test]
fn refuse_to_start_with_a_pepper_of_ones_own_that_others_can_read() {
    let server = crate::serve::Server::dev();
    let pepper = server.path().join(".remit/pepper");
    let mode = fs::metadata(&pepper).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600, "{mode:o}");
    let dir = cli::folder();
    fs::create_dir(dir.path().join(".remit")).unwrap();
    write_pepper(&dir.path().join(".remit"), 0o644);
    let ran = start(
        dir.path(),
        &[],
        &[
            "serve",
            "--dev",
            "--listen",
            "127.0.0.1:0",
            "--operations",
            "127.0.0.1:0",
        ],
    );
    ran.fails(3, &["chmod 600", "mode 644"]);
}

// === F43 ===

/// The text of a key like `key`, with one hexadecimal digit of its secret changed.
fn with_other_digit(key: &ApiKey, at: usize) -> String {
    let text = key.reveal();
    let secret = text.split('_').nth(3).unwrap();
    let mut bytes = [0_u8; 32];
    for (byte, pair) in bytes.iter_mut().zip(secret.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    }
    bytes[at] ^= 1;
    ApiKey::from_secret(key.environment(), key.id(), bytes)
        .unwrap()
        .reveal()
}

/// The kinds of keys that are refused.
const REFUSALS: [&str; 4] = [
    "first byte wrong",
    "last byte wrong",
    "unknown id",
    "malformed",
];

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Asks by turns, each turn in another order, and returns by how many seconds each refusal is slower than the first.
async fn differences(app: &TestApp, keys: &[String; 4]) -> [f64; 4] {
    const TURNS: usize = 3_000;
    let mut found: [Vec<f64>; 4] = Default::default();
    for turn in 0..TURNS {
        let mut times = [0.0; 4];
        for step in 0..keys.len() {
            let which = (turn + step * (1 + turn / 4 % 2 * 2)) % keys.len();
            let request = Request::get("/v1/bundle");
            let request = request.header("authorization", format!("Bearer {}", keys[which]));
            let (status, took) = app.time(request).await;
            assert_eq!(status, StatusCode::UNAUTHORIZED);
            times[which] = took.as_secs_f64();
        }
        for (found, time) in found.iter_mut().zip(times) {
            found.push(time - times[0]);
        }
    }
    found.map(median)
}

/// The time of one hash, in seconds.
fn hash_time(app: &TestApp, key: &ApiKey) -> f64 {
    let one = |_| {
        let began = Instant::now();
        StoredKey::reject(black_box(key), &app.pepper);
        began.elapsed().as_secs_f64()
    };
    median((0..3_000).map(one).collect())
}

/// Known and unknown ids, first and last byte wrong: the answers take equally long, within half of what one hash costs.
///
/// A key that is malformed is the control: it is not hashed, and the same clock must see that, or it would see nothing.
#[tokio::test]
async fn f43_the_time_of_a_refusal_tells_nothing_about_a_key() {
    const TRIES: usize = 5;
    let app = TestApp::start(&pack("starter")).await;
    let key = ApiKey::parse(&app.key).unwrap();
    let unknown = ApiKey::generate("dev", KeyId::from_uuid(app.clock.id())).unwrap();
    let mut cut = app.key.clone();
    cut.pop();
    let keys = [
        with_other_digit(&key, 0),
        with_other_digit(&key, 31),
        unknown.reveal(),
        cut,
    ];
    // What shows in every try is the server's; what shows in one was another program's.
    let told = async || {
        let hash = hash_time(&app, &key);
        let slower = differences(&app, &keys).await;
        println!("one hash takes {:.2} µs", hash * 1e6);
        for (name, slower) in REFUSALS.iter().zip(slower) {
            println!("{name}: {:+.2} µs", slower * 1e6);
        }
        let [_, last, unknown, malformed] = slower;
        let sees = malformed < -hash / 2.0;
        !sees || last.abs() > hash / 2.0 || unknown.abs() > hash / 2.0
    };
    for _ in 0..TRIES {
        if !told().await {
            return;
        }
    }
    panic!("the time of a refusal depends on the key, or the clock is too coarse to see a hash");
}

/// Secrets are compared by `subtle`, and the hash of a key cannot be compared in another way.
#[test]
fn f43_keys_are_compared_in_constant_time() {
    let read = |path: &str| fs::read_to_string(root().join(path)).unwrap();
    let (keys, hash, auth) = (
        read("crates/store/src/keys.rs"),
        read("crates/store/src/api_key.rs"),
        read("crates/api/src/auth.rs"),
    );
    for (text, times) in [(&keys, 2), (&auth, 1)] {
        assert!(text.contains("use subtle::ConstantTimeEq;"));
        assert_eq!(text.matches(".ct_eq(").count(), times);
    }
    for text in [&keys, &auth] {
        assert!(
            !text.contains("mac ==") && !text.contains("mac.0 ==") && !text.contains("digest ==")
        );
    }
    let (before, _) = hash.split_once("struct KeyMac(").unwrap();
    let derived = before.rsplit("#[derive(").next().unwrap();
    assert!(
        !derived.contains("PartialEq"),
        "a hash can be compared with `==`"
    );
}
