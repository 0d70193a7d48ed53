//! Decoding of secrets from text, without a copy left behind.

use data_encoding::Encoding;
use zeroize::Zeroizing;

/// `None` when the text is not of this encoding. What was decoded of it until then is wiped, too.
///
/// Padding is taken at the end only: several padded texts one after another are no text, though decoders often take them.
pub(crate) fn decode(encoding: &Encoding, text: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let padding = text.iter().rev().take_while(|&&byte| byte == b'=').count();
    if text[..text.len() - padding].contains(&b'=') {
        return None;
    }
    let mut bytes = Zeroizing::new(vec![0; encoding.decode_len(text.len()).ok()?]);
    let length = encoding.decode_mut(text, &mut bytes).ok()?;
    bytes.truncate(length);
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use data_encoding::{BASE32_NOPAD, BASE64, BASE64URL, BASE64URL_NOPAD, HEXLOWER};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn padding_stands_at_the_end() {
        for text in ["QQ==QUFB", "QUI=QUI=", "QQ==QQ==", "=QUI", "===="] {
            assert_eq!(decode(&BASE64, text.as_bytes()), None, "{text}");
        }
        assert_eq!(decode(&BASE64, b"QUI=").as_deref(), Some(&b"AB".to_vec()));
    }

    proptest! {
        #[test]
        fn else_it_does_what_the_encodings_own_decoder_does(bytes: Vec<u8>, text in "[A-Za-z0-9+/_-]{0,60}={0,3}") {
            for encoding in [&BASE64, &BASE64URL, &BASE64URL_NOPAD, &BASE32_NOPAD, &HEXLOWER] {
                let encoded = encoding.encode(&bytes);
                let decoded = decode(encoding, encoded.as_bytes());
                prop_assert_eq!(decoded.as_deref(), Some(&bytes));
                let reference = encoding.decode(text.as_bytes()).ok();
                let decoded = decode(encoding, text.as_bytes());
                prop_assert_eq!(decoded.as_deref(), reference.as_ref());
            }
        }
    }
}
