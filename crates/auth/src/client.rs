use std::net::IpAddr;

/// Most characters of a user agent that are kept.
pub const MAX_USER_AGENT_CHARS: usize = 256;

/// Where a request came from, as far as the caller believes it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClientInfo {
    ip: Option<IpAddr>,
    user_agent: Option<String>,
}

impl ClientInfo {
    /// Keeps the first [`MAX_USER_AGENT_CHARS`] characters of the user agent, with every control character replaced:
    /// the text ends up in lists, mails and audit entries.
    #[must_use]
    pub fn new(ip: Option<IpAddr>, user_agent: Option<&str>) -> Self {
        let clean = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
        let user_agent = user_agent.map(|text| text.chars().take(MAX_USER_AGENT_CHARS).map(clean).collect());
        Self { ip, user_agent }
    }

    /// The address of the client itself, behind trusted proxies.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        self.ip
    }

    /// What the client calls itself.
    #[must_use]
    pub fn user_agent(&self) -> Option<&str> {
        self.user_agent.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_agent_is_capped_and_tame() {
        let client = ClientInfo::new(None, Some(&format!("a\r\n\u{1b}[31m\0{}", "é".repeat(500))));
        let agent = client.user_agent().unwrap();
        assert!(agent.starts_with("a\u{fffd}\u{fffd}\u{fffd}[31m\u{fffd}é"));
        assert_eq!(agent.chars().count(), 256);
        assert_eq!(ClientInfo::new(None, None), ClientInfo::default());
    }
}
