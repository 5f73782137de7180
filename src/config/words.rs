//! Settings that are one of a few words.

use super::setting::{Unit, Value, Written};

macro_rules! words {
    ($(
        $(#[doc = $doc:literal])+
        $name:ident { $($(#[doc = $of:literal])+ $word:ident = $text:literal,)+ }
    )+) => {$(
        $(#[doc = $doc])+
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name {
            $($(#[doc = $of])+ $word,)+
        }

        impl Written for $name {
            fn write(&self, _: Unit) -> Option<Value> {
                let word = match self {
                    $(Self::$word => $text,)+
                };
                Some(Value::Text(word.to_owned()))
            }
            fn read(value: Value, _: Unit) -> Option<Self> {
                let Value::Text(text) = value else { return None };
                match text.as_str() {
                    $($text => Some(Self::$word),)+
                    _ => None,
                }
            }
        }
    )+};
}

words! {
    /// How a line of the log is written.
    LogFormat {
        /// For people.
        Text = "text",
        /// One JSON object in the form of the Elastic Common Schema.
        Ecs = "ecs",
    }

    /// In which words `schedule.status` is told.
    StatusWords {
        /// `pending`, `running`, `completed`, `failed`.
        Own = "own",
        /// `PENDING`, `STARTED`, `COMPLETED`, `ERROR`.
        JacCloud = "jac_cloud",
    }
}
