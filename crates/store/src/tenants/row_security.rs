//! Row-level security: the second belt between tenants, kept by Postgres itself.
//!
//! The first belt is the `tenant = $1` of every statement. The second is a policy on every table with rows of tenants
//! (migration `0015_row_security`): a role that it binds sees the rows of the tenant that its transaction named, and no
//! others. It binds every role but superusers, roles with `BYPASSRLS` and, unless it is forced, the owner of the tables.

use crate::db::{Conn, Either};
use crate::dialect;
use crate::error::{Error, Failure};
use crate::reach::{Across, Reach};
use crate::store::Store;

/// Protects every table that has rows of tenants and is not protected yet; `$1` forces it on the owner, or no more.
const PROTECT: &str = "SELECT remit_protect_tenants(CAST($1 AS BOOLEAN))";

/// What a role needs to run Remit, and no more: no changes of the schema, no `TRUNCATE`, which no policy binds.
///
/// The role's name comes by a setting, because a `DO` block takes no parameter.
const ADMIT: &str = "DO $$
DECLARE
    app TEXT := current_setting('remit.grantee');
BEGIN
    -- Postgres only warns where somebody grants what is not theirs.
    IF NOT pg_has_role((SELECT relowner FROM pg_class WHERE oid = to_regclass('tenants')), 'USAGE') THEN
        RAISE insufficient_privilege USING MESSAGE = 'only the owner of the tables can grant their use';
    END IF;
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', current_schema(), app);
    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA %I TO %I', current_schema(), app);
    EXECUTE format('REVOKE INSERT, UPDATE, DELETE ON migrations FROM %I', app);
END
$$";

/// What the role that Remit is connected as is, and whether it is bound.
const STANDING: &str = "SELECT CAST(current_user AS TEXT), coalesce(row_security_active(c.oid), false), \
    CASE WHEN r.rolsuper THEN 'superuser' WHEN r.rolbypassrls THEN 'bypasses' \
    WHEN coalesce(pg_has_role(c.relowner, 'USAGE'), false) AND c.relrowsecurity THEN 'owner' ELSE 'unprotected' END \
    FROM pg_roles AS r LEFT JOIN pg_class AS c ON c.oid = to_regclass('tenants') WHERE r.rolname = current_user";

/// Row-level security, as it stands for the role that a store is connected as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowSecurity {
    /// The role.
    pub role: String,
    /// Why it is not bound, where it is not.
    pub unbound: Option<Unbound>,
}

/// Why row-level security does not bind a role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unbound {
    /// It is a superuser.
    Superuser,
    /// It has `BYPASSRLS`.
    Bypasses,
    /// It owns the tables, or may act as the role that does, and the owner is not bound.
    Owner,
    /// The tables are not there, or not protected.
    Unprotected,
}

/// Protects every table with rows of tenants that is not protected yet; SQLite has one user, whom nothing binds.
pub(crate) async fn protect(conn: &mut Conn) -> Result<(), Failure> {
    set(conn, None).await
}

async fn set(conn: &mut Conn, forced: Option<bool>) -> Result<(), Failure> {
    if let Either::Postgres(raw) = &mut conn.raw {
        sqlx::query(PROTECT)
            .bind(forced)
            .execute(&mut **raw)
            .await?;
    }
    Ok(())
}

// === impl Store ===

impl Store {
    /// Lets a role of the database run Remit: read and write rows, and nothing else. Doing it again changes nothing.
    ///
    /// Only the owner of the tables can. SQLite has no roles: there it does nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Database`] when there is no such role.
    pub async fn admit_role(&self, role: &str) -> Result<(), Error> {
        self.within("let the role use the database", async {
            let mut conn = self.begin(Across::Migration).await?;
            dialect::lock_migrations(&mut conn).await?;
            if let Either::Postgres(raw) = &mut conn.raw {
                sqlx::query("SELECT set_config('remit.grantee', $1, true)")
                    .bind(role)
                    .execute(&mut **raw)
                    .await?;
                sqlx::raw_sql(ADMIT).execute(&mut **raw).await?;
            }
            conn.commit().await
        })
        .await
    }

    /// Binds the owner of the tables to row-level security as well, or frees it again.
    ///
    /// A version of Remit that does not name its tenant to the database sees nothing once the owner is bound: do it when
    /// none runs any more. SQLite has no owner: there it does nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Database`] when this is not the owner.
    pub async fn force_row_security(&self, forced: bool) -> Result<(), Error> {
        self.within("force row-level security", async {
            let mut conn = self.begin(Across::Migration).await?;
            dialect::lock_migrations(&mut conn).await?;
            set(&mut conn, Some(forced)).await?;
            conn.commit().await
        })
        .await
    }

    /// Returns how row-level security stands for the role of this store; `None` on SQLite, which has none.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] or [`Error::Deadline`].
    pub async fn row_security(&self) -> Result<Option<RowSecurity>, Error> {
        self.within("ask for row-level security", async {
            let mut conn = self.connect_to_read(Reach::Nobody).await?;
            let found: Option<(String, bool, String)> = match &mut conn.raw {
                Either::Postgres(raw) => {
                    Some(sqlx::query_as(STANDING).fetch_one(&mut **raw).await?)
                }
                Either::Sqlite(_) => None,
            };
            conn.end().await?;
            Ok(found.map(|(role, active, kind)| RowSecurity {
                role,
                unbound: (!active).then_some(match kind.as_str() {
                    "superuser" => Unbound::Superuser,
                    "bypasses" => Unbound::Bypasses,
                    "owner" => Unbound::Owner,
                    _ => Unbound::Unprotected,
                }),
            }))
        })
        .await
    }

    /// Returns the role that this store connects as; `None` on SQLite.
    pub fn role(&self) -> Option<String> {
        match &self.db() {
            Either::Postgres(pool) => Some(pool.connect_options().get_username().to_owned()),
            Either::Sqlite(_) => None,
        }
    }
}
