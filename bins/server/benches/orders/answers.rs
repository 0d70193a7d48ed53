//! Reading answers by hand, so that clients take little from what they measure.

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use super::Result;

/// Reads one answer of a given length into `answer`; its status.
pub(crate) async fn read_answer(stream: &mut TcpStream, answer: &mut Vec<u8>) -> Result<[u8; 3]> {
    answer.clear();
    let mut whole = None;
    while whole.is_none_or(|length| answer.len() < length) {
        if stream.read_buf(answer).await? == 0 {
            return Err("the server closed a connection".into());
        }
        if whole.is_none() {
            whole = whole_length(answer)?;
        }
    }
    // "HTTP/1.1 202 …"
    Ok(answer.get(9..12).and_then(|status| status.try_into().ok()).unwrap_or_default())
}

/// The length of head and body, once the head is there.
fn whole_length(answer: &[u8]) -> Result<Option<usize>> {
    const NAME: &[u8] = b"content-length: ";
    let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let head = &answer[..end];
    let at = head
        .windows(NAME.len())
        .position(|window| window.eq_ignore_ascii_case(NAME))
        .ok_or("an answer without a length")?;
    let digits = head[at + NAME.len()..].iter().take_while(|byte| byte.is_ascii_digit());
    let length = digits.fold(0, |length, digit| length * 10 + usize::from(digit - b'0'));
    Ok(Some(end + 4 + length))
}
