//! One unambiguous byte form for a sequence of typed fields, to be fed to a MAC or bound as associated data.
//!
//! Each field is a tag byte, a big-endian `u32` length and the bytes, so that no two different sequences have the
//! same encoding: `("ab", "c")` and `("a", "bc")`, `1` and `"1"`, absent and empty all differ.

/// Collects fields in order. The encoding never changes: stored MACs and sealed values depend on it.
#[derive(Debug, Clone, Default)]
pub struct Encoder(Vec<u8>);

impl Encoder {
    /// Starts with a label that keeps this use apart from every other one under the same key.
    #[must_use]
    pub fn new(label: &str) -> Self {
        Self(Vec::with_capacity(128)).text(label)
    }

    /// Adds text, as UTF-8 and exactly as given.
    #[must_use]
    pub fn text(self, value: &str) -> Self {
        self.field(b's', value.as_bytes())
    }

    /// Adds a byte string.
    #[must_use]
    pub fn bytes(self, value: &[u8]) -> Self {
        self.field(b'b', value)
    }

    /// Adds an integer, as eight big-endian bytes in two's complement.
    #[must_use]
    pub fn int(self, value: i64) -> Self {
        self.field(b'i', &value.to_be_bytes())
    }

    /// Adds the mark of an absent value.
    #[must_use]
    pub fn none(self) -> Self {
        self.field(b'n', &[])
    }

    /// Adds text, or the mark of an absent value.
    #[must_use]
    pub fn optional_text(self, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.text(value),
            None => self.none(),
        }
    }

    /// Adds an integer, or the mark of an absent value.
    #[must_use]
    pub fn optional_int(self, value: Option<i64>) -> Self {
        match value {
            Some(value) => self.int(value),
            None => self.none(),
        }
    }

    /// The encoding of all fields so far.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        self.0
    }

    fn field(mut self, tag: u8, value: &[u8]) -> Self {
        let length = u32::try_from(value.len()).expect("a field of a row is below 4 GiB");
        self.0.push(tag);
        self.0.extend_from_slice(&length.to_be_bytes());
        self.0.extend_from_slice(value);
        self
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_form_is_pinned() {
        let bytes = Encoder::new("L").text("é").int(-2).bytes(&[0]).none().finish();
        assert_eq!(
            bytes,
            b"s\0\0\0\x01Ls\0\0\0\x02\xc3\xa9i\0\0\0\x08\xff\xff\xff\xff\xff\xff\xff\xfeb\0\0\0\x01\0n\0\0\0\0"
        );
    }

    #[derive(Debug, Clone, PartialEq)]
    enum Field {
        Text(String),
        Bytes(Vec<u8>),
        Int(i64),
        None,
    }

    fn fields() -> impl Strategy<Value = Vec<Field>> {
        let field = prop_oneof![
            "[ab1]{0,3}".prop_map(Field::Text),
            proptest::collection::vec(97..=98u8, 0..3).prop_map(Field::Bytes),
            (-2..2i64).prop_map(Field::Int),
            Just(Field::None),
        ];
        proptest::collection::vec(field, 0..5)
    }

    fn encode(fields: &[Field]) -> Vec<u8> {
        fields
            .iter()
            .fold(Encoder::new("test"), |encoder, field| match field {
                Field::Text(text) => encoder.optional_text(Some(text)),
                Field::Bytes(bytes) => encoder.bytes(bytes),
                Field::Int(int) => encoder.optional_int(Some(*int)),
                Field::None => encoder.optional_text(None),
            })
            .finish()
    }

    proptest! {
        #[test]
        fn different_fields_never_share_an_encoding(a in fields(), b in fields()) {
            prop_assert_eq!(a == b, encode(&a) == encode(&b));
        }
    }
}
