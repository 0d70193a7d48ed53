//! `audit verify`.

use std::sync::Arc;

use plimsoll_crypto::OsRandom;
use plimsoll_storage::PoolKind;
use plimsoll_storage::platform::audit::{Anchor, AuditReport};
use plimsoll_storage::platform::keys::PlatformKeys;
use serde_json::json;

use crate::bootstrap::{Databases, Settle, StartError, key_ring, prepare};
use crate::config::{Environment, Settings};

/// The log does not verify.
const BAD: u8 = 1;

/// Verifies the whole audit log and prints what was found; works beside a running server, which is not disturbed.
/// Answers 0 when everything verifies, else 1.
///
/// # Errors
/// The anchor is none, or the database cannot be used.
pub(super) fn verify(
    settings: &Settings,
    environment: &Environment,
    anchor: Option<&str>,
    as_json: bool,
) -> Result<u8, StartError> {
    let anchor: Option<Anchor> = anchor
        .map(str::parse)
        .transpose()
        .map_err(|why: &str| StartError::Refused(format!("--anchor: {why}")))?;
    let data_dir = prepare(&settings.data_dir)?;
    let databases = Databases::open_beside(settings, environment)?;
    databases.migrate()?;
    let db = databases.pool(PoolKind::Jobs, 1)?;
    let ring = key_ring(&settings.keys, &data_dir, &db, Settle::Now, &mut OsRandom)?;
    let keys = PlatformKeys::load_or_create(&db, &ring, &mut OsRandom)?;
    let db = db.with_keys(Arc::new(keys));
    let report = db.read_snapshot_blocking(|tx| match &anchor {
        Some(anchor) => tx.verify_audit_anchored(anchor),
        None => tx.verify_audit(),
    })?;
    let text = if as_json { in_json(&report) } else { in_words(&report) };
    println!("{text}");
    Ok(if report.first_bad.is_none() { 0 } else { BAD })
}

fn in_json(report: &AuditReport) -> String {
    let bad = report
        .first_bad
        .as_ref()
        .map(|bad| json!({ "user_id": bad.user_id(), "entry_id": bad.entry_id(), "reason": bad.reason }));
    let shown = json!({
        "ok": report.first_bad.is_none(),
        "chains": report.chains,
        "entries": report.entries,
        "checkpoints": report.checkpoints,
        "newest_checkpoint": report.newest.map(|anchor| anchor.to_string()),
        "first_bad": bad,
    });
    serde_json::to_string_pretty(&shown).expect("texts and numbers serialise")
}

fn in_words(report: &AuditReport) -> String {
    let AuditReport { chains, entries, checkpoints, .. } = report;
    let read = format!("{entries} entries in {chains} chains and {checkpoints} checkpoints");
    let newest = report.newest.map_or_else(String::new, |anchor| format!("\nnewest checkpoint: {anchor}"));
    match &report.first_bad {
        None => format!("the audit log verifies: {read}{newest}"),
        Some(bad) => format!(
            "THE AUDIT LOG DOES NOT VERIFY: entry {} is the first bad one ({})\ngood before it: {read}{newest}",
            bad.entry_id(),
            bad.reason
        ),
    }
}
