//! Every column whose values the key ring seals itself: what keeps an old key needed, and what a rotation moves.
//!
//! What belongs to a user is sealed under the user's data key instead, and moves with `user_keys.wrapped`. A test compares
//! this list with the catalogue, so that a new sealed column cannot be forgotten.

use std::fmt;

/// One sealed column. A row's key as text is the row of the associated data.
#[derive(Clone, Copy)]
pub struct SealedColumn {
    /// Its table.
    pub table: &'static str,
    /// Its name.
    pub column: &'static str,
    /// Where values under data keys stand beside those of the ring.
    pub(super) holds_data_keys: bool,
    /// Whether the key's id stands in a column of its own; else in the sealed bytes, which may be damaged.
    pub(super) names_its_key: bool,
    /// Before every key of a row.
    pub(super) before_all: &'static str,
    pub(super) distinct_ids: &'static str,
    pub(super) count: &'static str,
    pub(super) any: &'static str,
    pub(super) read: &'static str,
    pub(super) lock: &'static str,
    pub(super) update: &'static str,
}

impl fmt::Debug for SealedColumn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.table, self.column)
    }
}

/// `id` is the key's id as text, in SQL, as an index has it.
macro_rules! sealed_column {
    (
        $table:literal . $column:literal, key $key:literal $kind:literal after $before_all:literal,
        owner $owner:literal, id $id:literal, set $set:literal, data keys $data_keys:literal
    ) => {
        SealedColumn {
            table: $table,
            column: $column,
            holds_data_keys: $data_keys,
            // what has a column for the id sets it with the value
            names_its_key: !$set.is_empty(),
            before_all: $before_all,
            // a loose scan: one step in the index for each distinct id
            distinct_ids: concat!(
                "WITH RECURSIVE ids AS ((SELECT ", $id, " AS id FROM ", $table, " WHERE ", $column,
                " IS NOT NULL ORDER BY 1 LIMIT 1) UNION ALL SELECT (SELECT ", $id, " FROM ", $table, " WHERE ", $column,
                " IS NOT NULL AND ", $id, " > ids.id ORDER BY 1 LIMIT 1) FROM ids WHERE ids.id IS NOT NULL) ",
                "SELECT id FROM ids WHERE id IS NOT NULL"
            ),
            count: concat!(
                "SELECT count(*) AS rows FROM ", $table, " WHERE ", $column, " IS NOT NULL AND ", $id, " = ?"
            ),
            any: concat!(
                "SELECT EXISTS (SELECT 1 FROM ", $table, " WHERE ", $column, " IS NOT NULL AND ", $id, " = ?) AS found"
            ),
            read: sealed_column!(@read $table, $column, $key, $kind, $owner, $id, ""),
            lock: sealed_column!(@read $table, $column, $key, $kind, $owner, $id, " FOR NO KEY UPDATE SKIP LOCKED"),
            update: concat!(
                "UPDATE ", $table, " AS t SET ", $column, " = v.sealed", $set, " FROM unnest(?, ?) AS v (row, sealed) ",
                "CROSS JOIN (SELECT ? AS key_id) AS k WHERE t.", $key, " = v.row::", $kind
            ),
        }
    };
    (@read $table:literal, $column:literal, $key:literal, $kind:literal, $owner:literal, $id:literal, $lock:literal) => {
        concat!(
            "SELECT ", $key, "::text AS key, ", $owner, "::bigint AS owner, ", $column, " AS sealed FROM ", $table,
            " WHERE ", $column, " IS NOT NULL AND ", $id, " = ? AND ", $key, " > ?::", $kind, " ORDER BY ", $key,
            " LIMIT ?", $lock
        )
    };
}

/// All of them. Second factors stand here for the values of before users had data keys, which move under those; the
/// installation's own keys last, so that a rotation that was cut off is never taken for a finished one.
pub const SEALED_COLUMNS: &[SealedColumn] = &[
    sealed_column!(
        "user_keys"."wrapped", key "user_id" "bigint" after "-9223372036854775808",
        owner "user_id", id "key_id", set ", key_id = k.key_id, updated_at = now()", data keys false
    ),
    sealed_column!(
        "user_2fa"."secret", key "user_id" "bigint" after "-9223372036854775808",
        owner "user_id", id "encode(substring(secret FROM 2 FOR 8), 'hex')", set "", data keys true
    ),
    sealed_column!(
        "user_2fa"."pending_secret", key "user_id" "bigint" after "-9223372036854775808",
        owner "user_id", id "encode(substring(pending_secret FROM 2 FOR 8), 'hex')", set "", data keys true
    ),
    sealed_column!(
        "mail_outbox"."sealed", key "id" "uuid" after "00000000-0000-0000-0000-000000000000",
        owner "user_id", id "encode(substring(sealed FROM 2 FOR 8), 'hex')", set "", data keys false
    ),
    sealed_column!(
        "installation_keys"."sealed", key "name" "text" after "",
        owner "NULL", id "key_id", set ", key_id = k.key_id, updated_at = now()", data keys false
    ),
];

/// Columns of bytes whose names sound sealed and that the ring does not seal itself, each with the reason.
pub const NOT_SEALED_BY_THE_RING: &[(&str, &str)] = &[
    ("broker_credentials.api_key", "under the user's data key"),
    ("broker_credentials.api_secret", "under the user's data key"),
    ("inbound_hooks.secret", "under the user's data key"),
    ("inbound_hooks.secret_sha256", "a hash of 32 random bytes"),
    ("inbound_hooks.old_secret", "under the user's data key"),
    ("inbound_hooks.old_secret_sha256", "a hash of 32 random bytes"),
    ("outbound_hooks.secret", "under the user's data key"),
    ("outbound_hooks.old_secret", "under the user's data key"),
];
