//! `/_sim/keys` and `/_sim/streams`: an account's keys come and go, and who listens.

use actix_web::{HttpResponse, web};
use bytes::Bytes;
use plimsoll_paper_exchange::AccountId;
use rand::rngs::SysRng;
use serde::Deserialize;
use serde_json::json;

use crate::http::{Shared, plain};
use crate::keys::{Login, is_key_text};
use crate::sim::{bad, unavailable};
use crate::wire::Answer;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewKey {
    account_id: AccountId,
    #[serde(default)]
    api_key: Option<String>,
    #[serde(default)]
    api_secret: Option<String>,
}

fn refused(status: u16, message: &str) -> Answer {
    Answer::json(status, &json!({ "message": message }))
}

/// Another key pair for an account.
pub(crate) async fn add(shared: web::Data<Shared>, body: Bytes) -> HttpResponse {
    match serde_json::from_slice(&body) {
        Ok(wanted) => plain(&added(&shared, wanted).await),
        Err(error) => bad(error),
    }
}

async fn added(shared: &Shared, wanted: NewKey) -> Answer {
    if ![&wanted.api_key, &wanted.api_secret].into_iter().flatten().all(|text| is_key_text(text)) {
        return refused(422, "api_key and api_secret must have 1 to 128 visible ASCII characters");
    }
    // held until the key is in use, so that no two accounts get the same one
    let mut file = shared.key_file.lock().await;
    if wanted.api_key.as_ref().is_some_and(|key| shared.keys.contains(key)) {
        return refused(409, "api_key is taken");
    }
    let Ok(mut login) = Login::generate(wanted.account_id, &mut SysRng) else {
        return refused(500, "the system gives no random bytes");
    };
    login.api_key = wanted.api_key.unwrap_or(login.api_key);
    login.api_secret = wanted.api_secret.unwrap_or(login.api_secret);
    let row = login.row();
    let account = wanted.account_id;
    let known = shared
        .engine
        .call(move |world| {
            let known = world.exchange.accounts().contains(&account);
            if known {
                world.unsaved.add_key(row);
            }
            known
        })
        .await;
    match known {
        Ok(true) => {}
        Ok(false) => return refused(404, "no such account"),
        Err(error) => return unavailable(error),
    }
    shared.keys.add(login.row());
    if let Err(error) = file.add(login.clone()) {
        tracing::error!(%error, "a new key pair could not be added to the key file; it works all the same");
    }
    Answer::json(201, &login)
}

/// The key opens nothing any more, and the account's stream connections are closed.
pub(crate) async fn revoke(shared: web::Data<Shared>, key: web::Path<String>) -> HttpResponse {
    let mut file = shared.key_file.lock().await;
    let Some(account) = shared.keys.account_of(&key) else {
        return plain(&refused(404, "no such key"));
    };
    let id = key.clone();
    if let Err(error) = shared.engine.call(move |world| world.unsaved.revoke_key(account, &id)).await {
        return plain(&unavailable(error));
    }
    shared.keys.revoke(&key);
    shared.hub.close(account);
    if let Err(error) = file.remove(&key) {
        tracing::error!(%error, "a revoked key pair is still in the key file; it opens nothing all the same");
    }
    plain(&Answer::empty())
}

/// The accounts whose order stream somebody listens to.
pub(crate) async fn streams(shared: web::Data<Shared>) -> HttpResponse {
    let counts = shared.hub.counts();
    let rows: Vec<_> =
        counts.iter().map(|(account, count)| json!({ "account": account, "connections": count })).collect();
    plain(&Answer::ok(&rows))
}
