//! People who do what our page does: they go where their server sends them, and look for another node when theirs is gone.
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use super::join::{Entrance, Newcomer, give};
use super::orders::{Order, Orders};
use super::person::{Person, SILENCE, Showing};
use crate::whep::{Session, Way, node_of};

/// How long the first picture of a session may take that is to take over.
const TAKE_OVER: Duration = Duration::from_secs(10);
/// Between two tries to find a node.
const RETRY: Duration = Duration::from_millis(500);

/// A session that somebody has.
struct Seat {
    id: usize,
    session: Session,
    showing: Arc<Showing>,
}

impl Seat {
    /// Where it is. Its token does not know: somebody who was sent elsewhere keeps it.
    fn node(&self) -> Option<String> {
        self.session.server.map(|server| server.to_string())
    }
}

impl Entrance {
    /// Takes one person in, keeps it wherever it has to go, and sees it out.
    pub(super) async fn accompany(
        self: Arc<Self>,
        newcomer: Newcomer,
        orders: Orders,
        mut end: watch::Receiver<bool>,
    ) {
        let person = self.people.newcomer();
        let mut seat = match self.sit(newcomer, &orders, &person, Way::Usual).await {
            Ok(seat) => seat,
            Err(reason) => {
                self.failed.fetch_add(1, Relaxed);
                self.record(newcomer.group, |totals| totals.failures.add(&reason));
                return;
            }
        };
        self.joined.fetch_add(1, Relaxed);
        self.people.add(&person);
        person.on_node(seat.node(), |_| ());
        tokio::select! {
            () = seat.showing.first() => {}
            () = over(&mut end) => {}
        }
        loop {
            let told = async {
                match self.door.reconnect(newcomer.number, &seat.session).await {
                    Some(url) => url,
                    None => std::future::pending().await,
                }
            };
            let next = tokio::select! {
                () = over(&mut end) => break,
                url = told => self.move_to(newcomer, (&orders, &person), &seat.session, &url).await,
                () = person.is_silent_for(SILENCE) => {
                    self.search(newcomer, (&orders, &person), &seat.session).await
                }
            };
            match next {
                Some(next) => self.leave(newcomer.number, &orders, std::mem::replace(&mut seat, next)).await,
                None => tokio::time::sleep(RETRY).await,
            }
        }
        self.door.leave(newcomer.number, &seat.session).await;
    }

    /// The new session first, and the old one ends when the new one shows something.
    async fn move_to(
        &self,
        newcomer: Newcomer,
        (orders, person): (&Orders, &Arc<Person>),
        session: &Session,
        url: &str,
    ) -> Option<Seat> {
        let way = Way::To(url, session.token.as_deref());
        let next = self.sit(newcomer, orders, person, way).await.ok()?;
        let is_there = tokio::time::timeout(TAKE_OVER, next.showing.first()).await.is_ok();
        self.record(newcomer.group, |totals| totals.moved += u64::from(is_there));
        if is_there {
            person.on_node(next.node(), |round| round.moved += 1);
            return Some(next);
        }
        self.leave(newcomer.number, orders, next).await;
        None
    }

    async fn search(
        &self,
        newcomer: Newcomer,
        (orders, person): (&Orders, &Arc<Person>),
        session: &Session,
    ) -> Option<Seat> {
        if self.door.is_known(newcomer.number, session).await {
            return None;
        }
        let node = session.token.as_deref().and_then(node_of);
        let way = node.as_deref().map_or(Way::Usual, Way::Elsewhere);
        let next = match self.sit(newcomer, orders, person, way).await {
            Ok(next) => next,
            // There may be no other, and it may have come back.
            Err(_) => self.sit(newcomer, orders, person, Way::Usual).await.ok()?,
        };
        let is_there = tokio::time::timeout(TAKE_OVER, next.showing.first()).await.is_ok();
        self.record(newcomer.group, |totals| totals.rejoined += u64::from(is_there));
        person.on_node(next.node(), |round| round.rejoined += u64::from(is_there));
        Some(next)
    }

    async fn sit(
        &self,
        newcomer: Newcomer,
        orders: &Orders,
        person: &Arc<Person>,
        way: Way<'_>,
    ) -> Result<Seat, String> {
        let showing = Showing::new(person);
        let id = self.seats.fetch_add(1, Relaxed);
        let (session, order) = self.join(newcomer, id, way, Some(Arc::clone(&showing))).await?;
        give(orders.clone(), order).await;
        Ok(Seat { id, session, showing })
    }

    async fn leave(&self, number: u64, orders: &Orders, seat: Seat) {
        let (left, has_left) = oneshot::channel();
        give(orders.clone(), Order::Leave { id: seat.id, left }).await;
        let _ = has_left.await;
        self.door.leave(number, &seat.session).await;
    }
}

async fn over(end: &mut watch::Receiver<bool>) {
    let _ = end.wait_for(|is_over| *is_over).await;
}
