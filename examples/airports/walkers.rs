//! One walker builds the graph, another measures it.

use std::collections::{BTreeMap, HashMap};

use uuid::Uuid;
use walkabout::{prelude::*, registry::Registry};

/// An airport.
#[derive(Node, Serialize, Deserialize, Clone)]
pub(crate) struct Airport {
    /// Its code.
    pub(crate) iata: String,
    /// Its name.
    pub(crate) name: String,
    /// Where it is.
    pub(crate) city: String,
    /// The state.
    pub(crate) state: String,
    /// The country.
    pub(crate) country: String,
    /// Degrees north.
    pub(crate) latitude: f64,
    /// Degrees east.
    pub(crate) longitude: f64,
}

/// The flights from one airport to another in 2008.
#[derive(Edge, Serialize, Deserialize)]
pub(crate) struct Flight {
    /// How many there were.
    pub(crate) count: u64,
}

/// One row of the routes.
#[derive(Deserialize)]
struct Route {
    origin: String,
    destination: String,
    count: u64,
}

/// Registers both.
pub(crate) fn register(types: &mut Registry) {
    types.walker::<BuildAirports>().walker::<Hops>();
}

/// Hangs all airports from the caller's root, and connects them by one directed edge per route. Reports how many of each; a second
/// call finds them and builds nothing.
#[derive(Walker, Serialize, Deserialize, Default)]
pub(crate) struct BuildAirports {}

/// What the graph takes in changes, and some room: 3,376 nodes, as many edges from the root, 5,366 flights. It is one commit, so
/// that nobody ever finds a part of it.
pub(crate) const CHANGES: usize = 15_000;

#[abilities]
impl BuildAirports {
    #[entry]
    async fn start(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        let built = cx.count(here.out().node::<Airport>()).await?;
        if built > 0 {
            let flights = cx.count(here.out().node::<Airport>().out().edge::<Flight>().edges()).await?;
            cx.report(json!({ "airports": built, "flights": flights }))?;
            return DONE;
        }
        let mut airports =
            csv::Reader::from_reader(include_str!("airports.csv").as_bytes()).into_deserialize::<Airport>();
        let Some(first) = airports.next().transpose()? else { return Err(fail("there are no airports")) };
        // Of several calls at once one makes the first airport. The commits of the others are refused, and they find all of them.
        let first = cx.first_or_create(here.out().node::<Airport>(), || first).await?;
        let mut by_code = HashMap::from([(first.read().iata.clone(), first.clone())]);
        for airport in airports {
            let airport = airport?;
            by_code.insert(airport.iata.clone(), cx.attach(&here, airport)?);
        }
        let end = |code: &str| by_code.get(code).ok_or_else(|| fail(format!("no airport {code}")));
        let mut flights = 0;
        for route in csv::Reader::from_reader(include_str!("flights-airport.csv").as_bytes()).deserialize() {
            let Route { origin, destination, count } = route?;
            cx.connect_with(end(&origin)?, end(&destination)?, Flight { count })?;
            flights += 1;
        }
        cx.report(json!({ "airports": by_code.len(), "flights": flights }))?;
        DONE
    }
}

/// Computes how many hops every other airport is away from one: a walk in breadth, with progress at each ring.
#[derive(Walker, Serialize, Deserialize, Default)]
#[walker(async, entry = "root")]
pub(crate) struct Hops {
    /// The code of the airport to begin at.
    pub(crate) from: String,
    #[serde(default)]
    #[walker(excluded)]
    hops: BTreeMap<String, u32>,
    /// The airports reached, with their hops; in the order of their visits.
    #[serde(skip)]
    reached: HashMap<Uuid, u32>,
    #[serde(skip)]
    busiest: Vec<(u64, String, String)>,
    #[serde(skip)]
    airports: usize,
    #[serde(skip)]
    ring: u32,
}

#[abilities]
impl Hops {
    #[entry]
    async fn start(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        let code = self.from.clone();
        self.airports = cx.count(here.out().node::<Airport>()).await?;
        let Some(first) =
            cx.first(here.out().node::<Airport>().filter(move |airport| airport.iata == code)).await?
        else {
            return Err(fail(format!(
                "there is no airport {:?}: build them first, and use a code such as SFO",
                self.from
            )));
        };
        self.reached.insert(first.uuid(), 0);
        cx.visit_one(&first)
    }

    #[entry]
    async fn arrive(&mut self, here: Here<Airport>, cx: &mut Context) -> Outcome {
        let hops = self.reached.get(&here.uuid()).copied().unwrap_or_default();
        let origin = here.read().iata.clone();
        if hops > self.ring {
            self.ring = hops;
            cx.progress(json!({ "hops": hops, "reached": self.reached.len() }));
        }
        for edge in cx.list(here.out().edge::<Flight>().edges()).await? {
            let Some((flight, (_, target))) = edge.cast::<Flight>()?.zip(edge.ends()) else { continue };
            let known = self.reached.get(&target).copied();
            // A route lies on a shortest path when it leads one ring outwards.
            if known.is_some_and(|known| known != hops + 1) {
                continue;
            }
            let id = walkabout::schema::NodeId::new(walkabout::schema::Name::new("Airport")?, target);
            let Some(airport) = cx.get::<Airport>(&id.into()).await? else { continue };
            if known.is_none() {
                self.reached.insert(target, hops + 1);
                cx.visit_one(&airport)?;
            }
            self.busiest.push((flight.read().count, origin.clone(), airport.read().iata.clone()));
        }
        self.hops.insert(origin, hops);
        DONE
    }

    #[exit]
    async fn end(&mut self, _here: Here<Any>, cx: &mut Context) -> Outcome {
        // Most flights first; equal ones by their codes.
        self.busiest.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| (&a.1, &a.2).cmp(&(&b.1, &b.2))));
        let busiest = self.busiest.iter().take(10);
        let busiest: Vec<Value> = busiest
            .map(|(count, origin, destination)| json!({ "origin": origin, "destination": destination, "count": count }))
            .collect();
        let mut hops = self.hops.clone();
        hops.remove(&self.from);
        let unreachable = self.airports - self.hops.len();
        cx.report(
            json!({ "from": self.from, "hops": hops, "unreachable": unreachable, "busiest": busiest }),
        )?;
        DONE
    }
}
