//! What can be done in the administration, each by the name of its operation.

macro_rules! actions {
    ($($name:ident $text:literal $on:literal $changes:literal;)*) => {
        /// What can be done in the administration: the name of an operation.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Action {
            $(#[doc = concat!("The operation `", $text, "`.")] $name,)*
        }

        impl Action {
            /// Every action.
            pub const ALL: &'static [Action] = &[$(Action::$name),*];

            /// Returns the name, as it stands in the schema, in records and as the id of the operation.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text),* }
            }

            /// Returns the type of what it is done to.
            pub(super) const fn on(self) -> &'static str {
                match self { $(Self::$name => $on),* }
            }

            /// Whether it answers an access request: policies decide it by what is known of the request.
            pub(super) const fn is_of_a_request(self) -> bool {
                matches!(
                    self,
                    Self::ApproveRequest | Self::DenyRequest | Self::EscalateRequest | Self::WithdrawApproval
                )
            }

            /// Whether it changes something, and so is recorded.
            pub const fn changes(self) -> bool {
                match self { $(Self::$name => $changes),* }
            }
        }
    };
}

actions! {
    GetBundle "get_bundle" "Tenant" false;
    CheckBundle "check_bundle" "Tenant" false;
    AssessBundle "assess_bundle" "Tenant" false;
    GetShadow "get_shadow" "Tenant" false;
    PutShadow "put_shadow" "Tenant" true;
    DeleteShadow "delete_shadow" "Tenant" true;
    ListVersions "list_versions" "Tenant" false;
    GetVersion "get_version" "Version" false;
    ListPolicies "list_policies" "Tenant" false;
    GetPolicy "get_policy" "Policy" false;
    ListEntities "list_entities" "Tenant" false;
    GetEntity "get_entity" "LiveEntity" false;
    GetRevision "get_revision" "Revision" false;
    ListDecisions "list_decisions" "Tenant" false;
    GetDecision "get_decision" "Decision" false;
    ExplainDecision "explain_decision" "Decision" false;
    MakeCase "make_case" "Decision" false;
    ListOutcomes "list_outcomes" "Tenant" false;
    ListOrphans "list_orphans" "Tenant" false;
    ListDrafts "list_drafts" "Tenant" false;
    GetDraft "get_draft" "Draft" false;
    GetSettings "get_settings" "Tenant" false;
    ListBreakGlass "list_break_glass" "Tenant" false;
    GetBreakGlass "get_break_glass" "BreakGlass" false;
    ListAdminActions "list_admin_actions" "Tenant" false;
    ListPrincipals "list_principals" "Tenant" false;
    GetPrincipal "get_principal" "Principal" false;
    ListKeys "list_keys" "Tenant" false;
    GetKey "get_key" "Key" false;
    CreateDraft "create_draft" "Tenant" true;
    PutDraftBundle "put_draft_bundle" "Draft" true;
    PutDraftPolicy "put_draft_policy" "Draft" true;
    DeleteDraftPolicy "delete_draft_policy" "Draft" true;
    DiscardDraft "discard_draft" "Draft" true;
    RebaseDraft "rebase_draft" "Draft" true;
    CheckDraft "check_draft" "Draft" true;
    AssessDraft "assess_draft" "Draft" true;
    PutBundle "put_bundle" "Tenant" true;
    RollbackBundle "rollback_bundle" "Tenant" true;
    PutPolicy "put_policy" "Policy" true;
    DeletePolicy "delete_policy" "Policy" true;
    PublishDraft "publish_draft" "Draft" true;
    ChangeEntities "change_entities" "Tenant" true;
    PutEntity "put_entity" "LiveEntity" true;
    DeleteEntity "delete_entity" "LiveEntity" true;
    ListTenants "list_tenants" "Tenant" false;
    CreateTenant "create_tenant" "Tenant" true;
    GetTenant "get_tenant" "Hosted" false;
    ExportTenant "export_tenant" "Hosted" true;
    SuspendTenant "suspend_tenant" "Hosted" true;
    ResumeTenant "resume_tenant" "Hosted" true;
    DeleteTenant "delete_tenant" "Hosted" true;
    ReviewDraft "review_draft" "Draft" true;
    ApproveBreakGlass "approve_break_glass" "BreakGlass" true;
    EndBreakGlass "end_break_glass" "BreakGlass" true;
    CreateKey "create_key" "Tenant" true;
    RevokeKey "revoke_key" "Key" true;
    PutPrincipal "put_principal" "Principal" true;
    DisablePrincipal "disable_principal" "Principal" true;
    PutSettings "put_settings" "Tenant" true;
    ConfirmSettings "confirm_settings" "Tenant" true;
    RequestBreakGlass "request_break_glass" "Tenant" true;
    ListAgents "list_agents" "Tenant" false;
    ListUnknownAgents "list_unknown_agents" "Tenant" false;
    GetAgent "get_agent" "Agent" false;
    PutAgent "put_agent" "Agent" true;
    SuspendAgent "suspend_agent" "Agent" true;
    ResumeAgent "resume_agent" "Agent" true;
    RetireAgent "retire_agent" "Agent" true;
    ListTools "list_tools" "Tenant" false;
    GetTool "get_tool" "Tool" false;
    CheckTools "check_tools" "Tenant" false;
    PutTools "put_tools" "Tenant" true;
    PutTool "put_tool" "Tool" true;
    DeleteTool "delete_tool" "Tool" true;
    ListKills "list_kills" "Tenant" false;
    GetKill "get_kill" "Kill" false;
    CreateKill "create_kill" "Tenant" true;
    LiftKill "lift_kill" "Kill" true;
    ConfirmKillLift "confirm_kill_lift" "Kill" true;
    KillEverything "kill_everything" "Tenant" true;
    ListExceptions "list_exceptions" "Tenant" false;
    GetException "get_exception" "Exception" false;
    ProposeException "propose_exception" "Tenant" true;
    ConfirmException "confirm_exception" "Exception" true;
    EndException "end_exception" "Exception" true;
    ListTasks "list_tasks" "Tenant" false;
    GetTask "get_task" "Task" false;
    CreateTask "create_task" "Tenant" true;
    NarrowTask "narrow_task" "Task" true;
    CompleteTask "complete_task" "Task" true;
    RevokeTask "revoke_task" "Task" true;
    SuspendTask "suspend_task" "Task" true;
    ResumeTask "resume_task" "Task" true;
    EndorseTask "endorse_task" "Task" true;
    ListTaskTemplates "list_task_templates" "Tenant" false;
    GetTaskTemplate "get_task_template" "TaskTemplate" false;
    PutTaskTemplate "put_task_template" "TaskTemplate" true;
    DeleteTaskTemplate "delete_task_template" "TaskTemplate" true;
    ListApproverGroups "list_approver_groups" "Tenant" false;
    GetApproverGroup "get_approver_group" "ApproverGroup" false;
    PutApproverGroup "put_approver_group" "ApproverGroup" true;
    DeleteApproverGroup "delete_approver_group" "ApproverGroup" true;
    ListApproverDelegations "list_approver_delegations" "Tenant" false;
    GetApproverDelegation "get_approver_delegation" "Principal" false;
    PutApproverDelegation "put_approver_delegation" "Principal" true;
    DeleteApproverDelegation "delete_approver_delegation" "Principal" true;
    ListApprovals "list_approvals" "Tenant" false;
    CountApprovals "count_approvals" "Tenant" false;
    WatchApprovals "watch_approvals" "Tenant" false;
    GetApproval "get_approval" "AccessRequest" false;
    ApproveRequest "approve_request" "AccessRequest" true;
    DenyRequest "deny_request" "AccessRequest" true;
    EscalateRequest "escalate_request" "AccessRequest" true;
    WithdrawApproval "withdraw_approval" "AccessRequest" true;
    ListWebhooks "list_webhooks" "Tenant" false;
    GetWebhook "get_webhook" "Webhook" false;
    ListDeliveries "list_deliveries" "Webhook" false;
    CreateWebhook "create_webhook" "Tenant" true;
    PutWebhook "put_webhook" "Webhook" true;
    DeleteWebhook "delete_webhook" "Webhook" true;
    PingWebhook "ping_webhook" "Webhook" true;
    RotateWebhook "rotate_webhook" "Webhook" true;
}
