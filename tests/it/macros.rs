//! What the derives and `#[abilities]` make of a type.

use walkabout::{
    prelude::*,
    walker::{FieldKind, Spec, Walker as _},
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
