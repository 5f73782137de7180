//! What the derives and `#[abilities]` make of a type.

use walkabout::{
    prelude::*,
    walker::{EntryType, FieldKind, Spec, Walker as _},
};

/// Gives walkers an ability, for tests that look at their declaration only.
macro_rules! idle {
    ($($name:ident)*) => {$(
        #[abilities]
        impl $name {
            #[entry]
            async fn start(&mut self, _here: Here<Root>, _cx: &mut Context) -> Outcome {
                DONE
            }
        }
    )*};
}

#[derive(Walker, Serialize, Deserialize)]
#[serde(rename_all(deserialize = "camelCase"))]
struct Renamed {
    #[serde(rename(deserialize = "from", serialize = "source"))]
    origin: String,
    #[serde(rename(serialize = "target"))]
    where_to: String,
}

idle!(Renamed);

#[test]
fn an_input_has_the_name_it_is_read_under() {
    let spec = Spec::new().field("from", FieldKind::Required).field("whereTo", FieldKind::Required);
    assert_eq!(Renamed::spec(), spec);
}

/// The library under another path, where root and node change places.
mod elsewhere {
    pub use walkabout::*;
    pub mod walker {
        pub use walkabout::walker::*;
        pub struct EntryType;
        #[allow(non_upper_case_globals, reason = "it stands for a variant")]
        impl EntryType {
            pub const Root: walkabout::walker::EntryType = walkabout::walker::EntryType::Node;
        }
    }
}

#[derive(Walker, Serialize, Deserialize)]
#[walker(crate = "elsewhere", entry = "root")]
struct PathFirst {}

#[derive(Walker, Serialize, Deserialize)]
#[walker(entry = "root", crate = "elsewhere")]
struct PathLast {}

idle!(PathFirst PathLast);

#[test]
fn the_arguments_of_an_attribute_have_no_order() {
    assert_eq!(PathFirst::spec().entry_type(), EntryType::Node);
    assert_eq!(PathLast::spec().entry_type(), EntryType::Node);
}
