//! Just enough JSON (RFC 8259) to write one flat object.

pub struct Object(String);

impl Object {
    pub fn new() -> Self {
        Object(String::from("{"))
    }

    fn key(&mut self, name: &str) {
        if self.0.len() > 1 {
            self.0.push(',');
        }
        self.0.push_str(&quoted(name));
        self.0.push(':');
    }

    pub fn text(mut self, name: &str, value: &str) -> Self {
        self.key(name);
        self.0.push_str(&quoted(value));
        self
    }

    pub fn whole(mut self, name: &str, value: u64) -> Self {
        self.key(name);
        self.0.push_str(&value.to_string());
        self
    }

    /// Two decimals; a value that is not finite becomes 0, because JSON cannot express it.
    pub fn number(mut self, name: &str, value: f64) -> Self {
        self.key(name);
        let value = if value.is_finite() { value } else { 0.0 };
        self.0.push_str(&format!("{value:.2}"));
        self
    }

    pub fn truth(mut self, name: &str, value: Option<bool>) -> Self {
        self.key(name);
        self.0.push_str(match value {
            Some(true) => "true",
            Some(false) => "false",
            None => "null",
        });
        self
    }

    pub fn end(mut self) -> String {
        self.0.push('}');
        self.0
    }
}

pub fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if (c as u32) < 0x20 => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object() {
        let text = Object::new()
            .text("a", "x\"\\\n\u{1}é")
            .whole("b", 7)
            .number("c", f64::NAN)
            .truth("d", None)
            .truth("e", Some(true))
            .end();
        assert_eq!(
            text,
            r#"{"a":"x\"\\\n\u0001é","b":7,"c":0.00,"d":null,"e":true}"#
        );
        assert_eq!(Object::new().end(), "{}");
    }
}
