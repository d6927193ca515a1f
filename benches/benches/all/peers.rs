//! Peers: other engines on the same rules, where they are on this machine.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::load::{Ask, once, request};
use crate::rules::{Call, Rules};
use crate::servers::{Core, Server, command, free_address};
use crate::translate;

/// A peer that answers over HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// All resources of one kind, named in conditions.
    Cerbos,
    /// Each resource a kind of its own.
    CerbosKinds,
    Opa,
    CedarAgent,
}

// === impl Peer ===

impl Peer {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Cerbos, Self::CerbosKinds, Self::Opa, Self::CedarAgent];

    /// Returns what it is called in the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cerbos => "Cerbos, one kind, log in a file, not durable",
            Self::CerbosKinds => "Cerbos, kind a resource, log in a file, not durable",
            Self::Opa => "OPA, decision log on its console, not durable",
            Self::CedarAgent => "cedar-agent, no decision log",
        }
    }

    /// Finds its program: named by the environment, or for Cerbos where its npm package puts it.
    ///
    /// # Errors
    ///
    /// How to have it.
    pub fn program(self) -> Result<PathBuf, String> {
        let variable = match self {
            Self::Cerbos | Self::CerbosKinds => "REMIT_BENCH_CERBOS",
            Self::Opa => "REMIT_BENCH_OPA",
            Self::CedarAgent => "REMIT_BENCH_CEDAR_AGENT",
        };
        if let Some(named) = std::env::var_os(variable) {
            let path = PathBuf::from(named);
            let missing = format!("{variable} names `{}`, which is no file", path.display());
            return path.is_file().then_some(path).ok_or(missing);
        }
        if !matches!(self, Self::Cerbos | Self::CerbosKinds) {
            return Err(format!("{variable} names no binary"));
        }
        let package = "@cerbos/cerbos-linux-x64";
        let home = PathBuf::from(std::env::var_os("HOME").unwrap_or_default());
        let cache = home.join(".cache/remit-benches");
        let path = cache
            .join("node_modules")
            .join(package)
            .join("cerbos-linux-x64");
        let missing = format!("npm install --prefix {} {package}", cache.display());
        path.is_file().then_some(path).ok_or(missing)
    }

    /// Starts it with rules.
    ///
    /// # Errors
    ///
    /// When it is not there, or does not start.
    pub fn start(self, rules: &Rules, folder: &Path) -> io::Result<Server> {
        let program = self.program().map_err(io::Error::other)?;
        fs::create_dir_all(folder)?;
        match self {
            Self::Cerbos | Self::CerbosKinds => {
                cerbos(&program, rules, folder, self == Self::CerbosKinds)
            }
            Self::Opa => opa(&program, rules, folder),
            Self::CedarAgent => cedar_agent(&program, rules, folder),
        }
    }

    /// Writes a call as it wants it.
    pub fn ask(self, server: &Server, call: &Call, allowed: bool) -> Ask {
        let (path, body, allow, deny) = match self {
            Self::Cerbos | Self::CerbosKinds => (
                "/api/check/resources",
                call.cerbos(self == Self::CerbosKinds),
                "EFFECT_ALLOW",
                "EFFECT_DENY",
            ),
            Self::Opa => (
                "/v1/data/bench/allow",
                json!({"input": call.question()}),
                "\"result\":true",
                "\"result\":false",
            ),
            Self::CedarAgent => (
                "/v1/is_authorized",
                call.cedar_agent(),
                "\"Allow\"",
                "\"Deny\"",
            ),
        };
        Ask {
            bytes: request("POST", path, server.address, &[], &body.to_string()),
            expected: vec![if allowed { allow } else { deny }],
        }
    }
}

fn cerbos(program: &Path, rules: &Rules, folder: &Path, kinds: bool) -> io::Result<Server> {
    let policies = folder.join("policies");
    fs::create_dir_all(&policies)?;
    for (name, text) in translate::cerbos(rules, kinds) {
        fs::write(policies.join(name), text)?;
    }
    let (http, grpc) = (free_address()?, free_address()?);
    // JSON is YAML.
    let config = json!({
        "server": {"httpListenAddr": http.to_string(), "grpcListenAddr": grpc.to_string(), "logRequestPayloads": false},
        "storage": {"driver": "disk", "disk": {"directory": policies, "watchForChanges": false}},
        "audit": {
            "enabled": true, "backend": "file", "accessLogsEnabled": false, "decisionLogsEnabled": true,
            "file": {"path": folder.join("decisions.log")},
        },
        "telemetry": {"disabled": true},
    });
    let file = folder.join("cerbos.yaml");
    fs::write(&file, config.to_string())?;
    let mut command = command(Core::Server, program);
    command
        .args(["server", "--log-level=error", "--config"])
        .arg(file)
        .env("CERBOS_NO_TELEMETRY", "1");
    Server::peer(&mut command, http, &folder.join("output"))
}

fn opa(program: &Path, rules: &Rules, folder: &Path) -> io::Result<Server> {
    let file = folder.join("bench.rego");
    fs::write(&file, translate::rego(rules))?;
    let address = free_address()?;
    let mut command = command(Core::Server, program);
    command
        .args([
            "run",
            "--server",
            "--log-level=error",
            "--disable-telemetry",
        ])
        .args(["--set", "decision_logs.console=true", "--addr"])
        .arg(address.to_string())
        .arg(file);
    Server::peer(&mut command, address, &folder.join("output"))
}

fn cedar_agent(program: &Path, rules: &Rules, folder: &Path) -> io::Result<Server> {
    let address = free_address()?;
    let mut command = command(Core::Server, program);
    command
        .args(["--addr", &address.ip().to_string(), "--port"])
        .arg(address.port().to_string());
    let server = Server::peer(&mut command, address, &folder.join("output"))?;
    let policies = translate::cedar_agent(rules).to_string();
    let put = request("PUT", "/v1/policies", address, &[], &policies);
    match once(address, &put)? {
        (200..300, _) => Ok(server),
        (status, body) => Err(io::Error::other(format!(
            "it took no policies: {status} {body}"
        ))),
    }
}
