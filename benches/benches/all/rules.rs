//! One rule set for every engine: which agent may use which tool on which resource, and when; with what is right.
//!
//! The rules are data here; `translate` writes them for each engine. What is right is worked out from the data alone,
//! so that every engine's answers are checked against something that is none of them.

use std::collections::{HashMap, HashSet};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// How many of the drawn calls are allowed.
const ALLOWED: f64 = 0.59;
const ENVIRONMENTS: [&str; 3] = ["production", "staging", "development"];

/// A rule set, with who and what there is.
pub struct Rules {
    pub rules: Vec<Rule>,
    pub agents: usize,
    pub tools: usize,
    pub resources: usize,
    by_grant: HashMap<Grant, Vec<usize>>,
}

/// Which agent, which tool, which resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Grant {
    pub agent: usize,
    pub tool: usize,
    pub resource: usize,
}

/// One rule: a permit for a grant under conditions, or the exception that takes it back.
#[derive(Debug, Clone, Copy)]
pub enum Rule {
    /// In one environment, up to a data class, within minutes of the day, and perhaps only once approved.
    Permit {
        grant: Grant,
        environment: &'static str,
        data_class: u32,
        from: u32,
        until: u32,
        approval: bool,
    },
    /// Never above a data class unless approved.
    Forbid { grant: Grant, data_class: u32 },
}

/// One call that somebody asks about.
#[derive(Debug, Clone, Copy)]
pub struct Call {
    pub grant: Grant,
    pub environment: &'static str,
    pub data_class: u32,
    pub minute: u32,
    pub approved: bool,
}

// === impl Rules ===

impl Rules {
    /// Makes a rule set of that size, always the same one; every fifth rule takes something back.
    pub fn new(number: usize) -> Self {
        let mut rng = StdRng::seed_from_u64(20_261_125);
        let agents = (number / 50).max(2);
        let tools = (number / 50).clamp(3, 20);
        let resources = (number / 5).clamp(5, 200);
        let mut rules = Vec::with_capacity(number);
        let mut by_grant: HashMap<Grant, Vec<usize>> = HashMap::new();
        let mut taken = HashSet::new();
        let mut last = None;
        while rules.len() < number {
            let forbid = rules.len() % 5 == 4;
            let (rule, grant) = match last.filter(|_| forbid) {
                Some(grant) => {
                    let data_class = rng.random_range(1..4);
                    (Rule::Forbid { grant, data_class }, grant)
                }
                None => {
                    let grant = Grant {
                        agent: rng.random_range(0..agents),
                        tool: rng.random_range(0..tools),
                        resource: rng.random_range(0..resources),
                    };
                    if !taken.insert(grant) {
                        continue;
                    }
                    (permit(&mut rng, grant), grant)
                }
            };
            by_grant.entry(grant).or_default().push(rules.len());
            rules.push(rule);
            last = Some(grant);
        }
        Self {
            rules,
            agents,
            tools,
            resources,
            by_grant,
        }
    }

    /// Draws calls, 59 % of them allowed, most of the others close to a rule.
    pub fn calls(&self, number: usize) -> Vec<(Call, bool)> {
        let mut rng = StdRng::seed_from_u64(7);
        let mut drawn = Vec::with_capacity(number);
        while drawn.len() < number {
            let wanted = rng.random_bool(ALLOWED);
            // A call that comes out as wanted turns up within a few draws; the bound is only a bound.
            let call = (0..10_000)
                .map(|_| self.call(&mut rng))
                .find(|call| self.allows(call) == wanted)
                .expect("a call of either kind");
            drawn.push((call, wanted));
        }
        drawn
    }

    fn call(&self, rng: &mut StdRng) -> Call {
        let rule = self.rules.get(rng.random_range(0..self.rules.len()));
        let near = rule.filter(|_| rng.random_bool(0.9));
        let grant = near.map_or_else(
            || Grant {
                agent: rng.random_range(0..self.agents),
                tool: rng.random_range(0..self.tools),
                resource: rng.random_range(0..self.resources),
            },
            Rule::grant,
        );
        let environment = match near {
            Some(Rule::Permit { environment, .. }) if rng.random_bool(0.8) => environment,
            _ => pick(rng, &ENVIRONMENTS),
        };
        Call {
            grant,
            environment,
            data_class: rng.random_range(0..5),
            minute: rng.random_range(0..1_440),
            approved: rng.random_bool(0.5),
        }
    }

    /// Tells what is right: a permit that applies, and no forbid.
    pub fn allows(&self, call: &Call) -> bool {
        let (mut permitted, mut forbidden) = (false, false);
        for place in self.by_grant.get(&call.grant).into_iter().flatten() {
            match self.rules.get(*place) {
                Some(Rule::Permit {
                    environment,
                    data_class,
                    from,
                    until,
                    approval,
                    ..
                }) => {
                    permitted |= call.environment == *environment
                        && call.data_class <= *data_class
                        && (*from..*until).contains(&call.minute)
                        && (call.approved || !approval);
                }
                Some(Rule::Forbid { data_class, .. }) => {
                    forbidden |= call.data_class > *data_class && !call.approved;
                }
                None => {}
            }
        }
        permitted && !forbidden
    }
}

// === impl Rule ===

impl Rule {
    /// Returns what the rule is about.
    pub fn grant(&self) -> Grant {
        match self {
            Self::Permit { grant, .. } | Self::Forbid { grant, .. } => *grant,
        }
    }
}

fn permit(rng: &mut StdRng, grant: Grant) -> Rule {
    let from = rng.random_range(0..600);
    Rule::Permit {
        grant,
        environment: pick(rng, &ENVIRONMENTS),
        data_class: rng.random_range(1..5),
        from,
        until: from + rng.random_range(480..840),
        approval: rng.random_bool(0.25),
    }
}

fn pick(rng: &mut StdRng, among: &[&'static str]) -> &'static str {
    among
        .get(rng.random_range(0..among.len()))
        .copied()
        .unwrap_or_default()
}
