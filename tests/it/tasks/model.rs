//! `revoke_final`: after a task is over, nothing in it or below it is permitted, on any replica, in any order of events.

use std::collections::BTreeMap;

use http::StatusCode;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};

use super::fleet::{ask_at, pair};
use super::*;

/// How many orders of events are tried; `REMIT_REVOKE_FINAL` says another number.
const ORDERS: u32 = 24;

/// Something that happens; tasks are meant by their place among those that there are.
#[derive(Debug, Clone)]
enum Event {
    Open,
    Child(prop::sample::Index),
    Turn(prop::sample::Index, &'static str),
    Narrow(prop::sample::Index),
    Expire(prop::sample::Index),
}

/// What the model knows of one task.
#[derive(Debug, Clone)]
struct Known {
    parent: Option<usize>,
    state: &'static str,
}

/// How a task stands by all above it.
fn stands(known: &[Known], mut place: usize) -> &'static str {
    let mut worst = "active";
    loop {
        let one = &known[place];
        if one.state != "active" && (worst == "active" || worst == "suspended") {
            worst = one.state;
        }
        match one.parent {
            Some(parent) => place = parent,
            None => return worst,
        }
    }
}

/// Marks a task as over, with everything below it that is not.
fn end(known: &mut [Known], place: usize, state: &'static str) {
    let below: Vec<usize> = (0..known.len())
        .filter(|other| {
            let mut at = Some(*other);
            while let Some(here) = at {
                if here == place {
                    return true;
                }
                at = known[here].parent;
            }
            false
        })
        .collect();
    for one in below {
        if matches!(known[one].state, "active" | "suspended") {
            known[one].state = state;
        }
    }
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let any = any::<prop::sample::Index>;
    let turn = prop::sample::select(vec!["complete", "revoke", "suspend", "resume"]);
    let event = prop_oneof![
        2 => Just(Event::Open),
        4 => any().prop_map(Event::Child),
        6 => (any(), turn).prop_map(|(at, verb)| Event::Turn(at, verb)),
        1 => any().prop_map(Event::Narrow),
        2 => any().prop_map(Event::Expire),
    ];
    prop::collection::vec(event, 4..14)
}

struct Run<'a> {
    world: &'a World,
    b: &'a TestApp,
    ids: Vec<String>,
    known: Vec<Known>,
    /// The revision after the last event.
    revision: String,
    asked: &'a mut usize,
}

// === impl Run ===

impl Run<'_> {
    async fn happen(&mut self, event: &Event) {
        let count = self.ids.len();
        match event {
            Event::Open => self.open(None).await,
            _ if count == 0 => {}
            Event::Child(at) => self.open(Some(at.index(count))).await,
            Event::Turn(at, verb) => self.turn(at.index(count), verb).await,
            Event::Narrow(at) => self.narrow(at.index(count)).await,
            Event::Expire(at) => self.expire(at.index(count)).await,
        }
        // Both replicas, one by the revision of what happened.
        for place in 0..self.ids.len() {
            let expected = match stands(&self.known, place) {
                "active" => "policy_permit",
                "suspended" => "task_suspended",
                "completed" => "task_completed",
                "revoked" => "task_revoked",
                _ => "task_expired",
            };
            for app in [&self.world.test, self.b] {
                let (reason, _) = ask_at(app, &self.ids[place], Some(&self.revision)).await;
                assert_eq!(
                    reason == "policy_permit",
                    expected == "policy_permit",
                    "task {place} of {:?}: {reason}, {expected}",
                    self.known
                );
                *self.asked += 1;
            }
        }
    }

    async fn open(&mut self, parent: Option<usize>) {
        let mut body = with(task("bot"), json!({ "may_delegate": true }));
        if let Some(parent) = parent {
            body = with(body, json!({ "parent": self.ids[parent] }));
        }
        let opened = self.world.open_by(&self.world.ops, &body).await;
        let may = parent.is_none_or(|parent| stands(&self.known, parent) == "active");
        assert_eq!(
            opened.status.is_success(),
            may,
            "{:?}: {}",
            self.known,
            opened.text
        );
        if may {
            opened
                .header("remit-revision")
                .clone_into(&mut self.revision);
            self.ids.push(id_of(&opened));
            let state = "active";
            self.known.push(Known { parent, state });
        }
    }

    async fn turn(&mut self, place: usize, verb: &str) {
        let reply = self.world.turn(&self.ids[place], verb).await;
        let state = self.known[place].state;
        let may = match verb {
            "suspend" => state == "active",
            "resume" => state == "suspended",
            _ => matches!(state, "active" | "suspended"),
        };
        assert_eq!(
            reply.status.is_success(),
            may,
            "{verb} {:?}: {}",
            self.known,
            reply.text
        );
        if !may {
            return;
        }
        reply
            .header("remit-revision")
            .clone_into(&mut self.revision);
        match verb {
            "suspend" => self.known[place].state = "suspended",
            "resume" => self.known[place].state = "active",
            "complete" => end(&mut self.known, place, "completed"),
            _ => end(&mut self.known, place, "revoked"),
        }
    }

    async fn narrow(&mut self, place: usize) {
        let path = format!("/v1/tasks/{}/narrow", self.ids[place]);
        let reply = self.world.send(&self.world.ops, &path, &json!({})).await;
        let may = stands(&self.known, place) == "active";
        assert_eq!(
            reply.status.is_success(),
            may,
            "{:?}: {}",
            self.known,
            reply.text
        );
        if may {
            reply
                .header("remit-revision")
                .clone_into(&mut self.revision);
            end(&mut self.known, place, "completed");
            let parent = self.known[place].parent;
            self.ids.push(id_of(&reply));
            self.known.push(Known {
                parent,
                state: "active",
            });
        }
    }

    /// Opens a child whose time is over at once, and waits for that.
    async fn expire(&mut self, parent: usize) {
        if stands(&self.known, parent) != "active" {
            return;
        }
        let members = json!({ "may_delegate": true, "parent": self.ids[parent], "expires_in": 1 });
        let opened = self
            .world
            .open_by(&self.world.ops, &with(task("bot"), members))
            .await;
        assert_eq!(opened.status, StatusCode::CREATED, "{}", opened.text);
        opened
            .header("remit-revision")
            .clone_into(&mut self.revision);
        self.ids.push(id_of(&opened));
        self.known.push(Known {
            parent: Some(parent),
            state: "expired",
        });
        tokio::time::sleep(Duration::from_millis(1_100)).await;
    }
}

#[test]
fn revoke_final() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let Some((world, b)) = runtime.block_on(pair(true)) else {
        return;
    };
    let cases = std::env::var("REMIT_REVOKE_FINAL").map_or(ORDERS, |count| count.parse().unwrap());
    let (mut asked, mut ends) = (0, BTreeMap::new());
    let seen = std::cell::RefCell::new((&mut asked, &mut ends));
    let mut runner = TestRunner::new(Config {
        cases,
        max_shrink_iters: 64,
        rng_seed: RngSeed::Fixed(7),
        failure_persistence: None,
        ..Config::default()
    });
    let ran = runner.run(&events(), |events| {
        let mut seen = seen.borrow_mut();
        let (asked, ends) = &mut *seen;
        let mut run = Run {
            world: &world,
            b: &b,
            ids: Vec::new(),
            known: Vec::new(),
            revision: "0".to_owned(),
            asked,
        };
        runtime.block_on(async {
            for event in &events {
                run.happen(event).await;
            }
        });
        for place in 0..run.known.len() {
            *ends.entry(stands(&run.known, place)).or_insert(0_usize) += 1;
        }
        Ok(())
    });
    ran.unwrap();
    println!(
        "{cases} orders of events, {asked} decisions on two replicas; tasks at the end: {ends:?}"
    );
    runtime.block_on(async move { drop((world, b)) });
}
