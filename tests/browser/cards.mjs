// Requests as `/v1/approvals/{id}` answers them, made up: an ordinary one, and one whose every text is an attack.

export const ID = "01a218fe-5a88-705f-ad69-1bed8a37954d";
const HASH = `sha256:${"ab".repeat(32)}`;

/** Makes an ordinary request, with these members of it, and these of its card, in the place of its own. */
export function request(members = {}, card = {}) {
  return {
    id: ID,
    state: "pending",
    requested_by: "gateway",
    requested_at: new Date().toISOString(),
    expires_at: new Date(Date.now() + 9 * 60_000 + 48_000).toISOString(),
    decision: "01a218fe-5a88-705f-ad69-1bed8a379000",
    card_hash: HASH,
    wants: { finance: 1 },
    progress: [{ group: "finance", needed: 1, approved: 0 }],
    answers: [],
    mine: { may: true, may_deny: true },
    card: {
      call: {
        action: "payments.send",
        effect: "pay",
        resource: { type: "Service", id: "payments" },
        digest: `sha256:${"cd".repeat(32)}`,
        arguments: [
          { name: "payee", type: "string", value: "FI2112345600000785" },
          { name: "amount", type: "number", value: 12500 },
          { name: "currency", type: "string", value: "EUR" },
          { name: "reference", type: "string", value: "4712" },
          { name: "token", redacted: { type: "string", length: 24 } },
        ],
      },
      sinks: [{ value: "FI2112345600000785", declared: true, trusted: false }],
      amount: { minor: 1_250_000, scale: 2 },
      agent: { type: "Agent", id: "invoice-bot", owner: "dana", purpose: "pay invoices", trust: 2, environment: "production" },
      task: {
        id: "01a218fe-5a88-705f-ad69-1bed8a370000",
        purpose: "pay-invoices",
        opened_by: "dana",
        labels: [{ label: "untrusted", decision: "01a218fe-5a88-705f-ad69-1bed8a37954d" }],
      },
      chain: [],
      reasons: [{
        policy: "large-payment", severity: "high", cure: "approval:finance",
        advice: "A payment of more than 10,000.00 needs a person's approval of exactly this payment.",
      }],
      hints: { reversible: false, first_tool: false, first_sinks: ["FI2112345600000785"], recent_refusals: 0 },
      said_by_agent: [{ what: "justification", text: "Invoice 4712 of Alder Paper is due today." }],
      ...card,
    },
    ...members,
  };
}

/** What tries to become markup, to run, to hide, or to turn the reading direction. */
export const ATTACKS = [
  "<img src=x onerror=\"window.pwned=1\">",
  "</script><script>window.pwned=1</script>",
  "javascript:window.pwned=1",
  "pay \u202eXK05\u202c\u2066\u200b\u0000\u0007\u{e0041}",
  "\"><style>*{display:none}</style>",
  "{{constructor.constructor('window.pwned=1')()}}",
  // A card has 64 KiB at most, and what an approval is bound to stands there whole.
  `${"A".repeat(5_000)} TO THE END`,
  "e" + "\u0301".repeat(500),
];

/** Makes a request in which every text that an agent or a caller can supply is an attack. */
export function hostile() {
  const all = ATTACKS.join(" ");
  return request({ requested_by: all, progress: [{ group: all, needed: 1, approved: 0 }] }, {
    call: {
      action: ATTACKS[0],
      effect: "pay",
      resource: { type: "Service", id: all },
      digest: HASH,
      arguments: ATTACKS.map((attack) => ({ name: attack, type: "string", value: attack })),
    },
    sinks: [
      { value: "FI21123456000007\u202e85", declared: false, trusted: false },
      ...ATTACKS.map((value) => ({ value, declared: false, trusted: false, looks_like: all })),
    ],
    agent: { type: "Agent", id: ATTACKS[1], owner: all, purpose: all, trust: 2 },
    chain: [{ type: "Agent", id: all }],
    reasons: [{ policy: ATTACKS[4], severity: ATTACKS[0], advice: all }],
    hints: { reversible: true, first_tool: true, first_sinks: ATTACKS, recent_refusals: ATTACKS[0] },
    said_by_agent: ATTACKS.map((text) => ({ what: "intent", text })),
  });
}
