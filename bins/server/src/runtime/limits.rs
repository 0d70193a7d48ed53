//! The line of the log that says which limits are on.

use plimsoll_api::state::ApiSettings;

use crate::config::Limits;

/// Tells the limits that a server starts with.
pub(super) fn tell(api: &ApiSettings, limits: &Limits) {
    let rate = api
        .order_rate
        .map_or_else(|| "off".to_owned(), |rate| format!("{}/s,{}", rate.per_second, rate.burst));
    let login = &api.policy.login;
    tracing::info!(
        orders = rate,
        login_per_ip = login.per_ip.count,
        login_failures = login.failures,
        sessions_per_user = api.policy.sessions.max_per_user(),
        session_idle_s = api.policy.sessions.idle().num_seconds(),
        session_lifetime_s = api.policy.sessions.absolute().num_seconds(),
        step_up_s = api.policy.step_up.num_seconds(),
        require_admin_2fa = api.policy.require_admin_2fa,
        registration_open = api.policy.registration.open,
        password_min_length = api.policy.registration.password_min_length,
        parallel_hashes = api.parallel_hashes,
        body_kib = plimsoll_api::body::MAX_BODY / 1024,
        ws_per_user = limits.ws_per_user,
        ws_per_ip = limits.ws_per_ip,
        cors_origins = api.cors_origins.len(),
        trusted_proxies = api.trusted_proxies.count(),
        "Limits are on."
    );
}
