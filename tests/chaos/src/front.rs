//! A reverse proxy in front of Remit: nginx or haproxy, as one process in the foreground that ends with its test.
//!
//! Both keep their connections to Remit and put the requests of all clients on them, as they do in production. That is
//! what smuggling needs: the rest of one client's request is read as the beginning of the next one's.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use remit_tests::ports::free_address;
use tempfile::TempDir;

use crate::tool::{self, Tool};

/// How long one may take until it listens.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often one is started again when another process took its port first.
const STARTS: usize = 5;

/// Which proxy stands in front.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Make {
    /// nginx, of the package `nginx-light`.
    Nginx,
    /// haproxy.
    Haproxy,
}

/// What it does with a request that is odd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// It refuses what it refuses by default, and reads a body before it passes it on.
    Default,
    /// It passes on what it can be told to pass on, as it comes.
    Lenient,
}

/// A running proxy, killed when it is dropped.
///
/// An answer from behind it has the header [`Front::MARK`]; its own answers have not.
#[derive(Debug)]
pub struct Front {
    /// Where it listens.
    pub address: SocketAddr,
    _tool: Tool,
    _folder: TempDir,
}

// === impl Make ===

impl Make {
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Nginx => ("nginx", "nginx-light"),
            Self::Haproxy => ("haproxy", "haproxy"),
        }
    }

    /// Returns what it says of its version, in one line.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    pub fn version(self) -> Option<String> {
        let (program, package) = self.names();
        let program = tool::installed(program, package)?;
        let said = Command::new(program).arg("-v").output().unwrap();
        let said = [said.stdout, said.stderr].concat();
        let line = String::from_utf8_lossy(&said);
        let line = line.lines().next()?.replace("nginx version: ", "");
        line.split(" - ").next().map(str::to_owned)
    }

    fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Nginx => &["-p", ".", "-c", "configuration", "-e", "stderr"],
            Self::Haproxy => &["-db", "-f", "configuration"],
        }
    }

    fn configuration(self, manner: Manner, here: SocketAddr, behind: SocketAddr) -> String {
        let lenient = manner == Manner::Lenient;
        let mark = Front::MARK;
        match self {
            // One process instead of a master and its workers: whoever kills it has killed all of it.
            Self::Nginx => format!(
                "daemon off;
                master_process off;
                pid nginx.pid;
                events {{ worker_connections 512; }}
                http {{
                    access_log off;
                    client_body_temp_path body;
                    proxy_temp_path proxy;
                    fastcgi_temp_path fastcgi;
                    uwsgi_temp_path uwsgi;
                    scgi_temp_path scgi;
                    client_header_timeout 2s;
                    client_body_timeout 2s;
                    upstream remit {{ server {behind}; keepalive 16; }}
                    server {{
                        listen {here};
                        ignore_invalid_headers {strict};
                        underscores_in_headers {loose};
                        location / {{
                            proxy_pass http://remit;
                            proxy_http_version 1.1;
                            proxy_set_header Connection \"\";
                            proxy_set_header Host $http_host;
                            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
                            proxy_request_buffering {strict};
                            proxy_next_upstream off;
                            add_header {mark} nginx always;
                        }}
                    }}
                }}\n",
                strict = if lenient { "off" } else { "on" },
                loose = if lenient { "on" } else { "off" },
            ),
            Self::Haproxy => format!(
                "global
                    nbthread 1
                defaults
                    mode http
                    timeout connect 5s
                    timeout client 5s
                    timeout server 20s
                    timeout http-request 2s
                    timeout http-keep-alive 5s
                    retries 0
                frontend here
                    bind {here}
                    {request}
                    option forwardfor
                    default_backend remit
                backend remit
                    http-reuse always
                    http-response set-header {mark} haproxy
                    server remit {behind}\n",
                request = if lenient {
                    "option accept-invalid-http-request"
                } else {
                    "option http-buffer-request"
                },
            ),
        }
    }
}

// === impl Front ===

impl Front {
    /// The header of every answer that comes from behind it.
    pub const MARK: &str = "x-front";

    /// Starts one in front of `behind`, and waits until it listens.
    ///
    /// Returns `None`, and says what to install, where it is not installed.
    ///
    /// # Panics
    ///
    /// When it ends or does not listen in time, and under `CI=true` where it is not installed.
    pub fn start(make: Make, manner: Manner, behind: SocketAddr) -> Option<Self> {
        let (program, package) = make.names();
        let program = tool::installed(program, package)?;
        let mut output = String::new();
        for _ in 0..STARTS {
            let folder = TempDir::with_prefix("remit-front-").unwrap();
            let address: SocketAddr = free_address().parse().unwrap();
            let text = make.configuration(manner, address, behind);
            fs::write(folder.path().join("configuration"), text).unwrap();
            let mut tool = Tool::start(&program, make.arguments(), folder.path());
            let until = Instant::now() + PATIENCE;
            // It ends when another process took its port between our look and its own.
            while tool.runs() {
                if TcpStream::connect(address).is_ok() && tool.runs() {
                    return Some(Self {
                        address,
                        _tool: tool,
                        _folder: folder,
                    });
                }
                assert!(Instant::now() < until, "{}", tool.output());
                std::thread::sleep(Duration::from_millis(20));
            }
            output = tool.output();
        }
        panic!("{make:?} does not start: {output}")
    }
}
