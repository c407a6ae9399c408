//! Sessions whose tokens are void.
use control::{Marks, Revocations};
use rtc::ViewerId;

use super::{Session, Sessions};

impl Sessions {
    /// Ends every session that what is revoked covers; returns the viewers that the engine has to let go.
    pub(crate) fn revoke(&self, revocations: &Revocations) -> Vec<ViewerId> {
        if revocations.is_empty() {
            return Vec::new();
        }
        let mut table = self.lock();
        let is_covered = |session: &Session| !session.is_ending && revocations.cover(&session.marks());
        let covered = table.rows.iter().filter(|(_, session)| is_covered(session));
        let covered: Vec<_> = covered.map(|(viewer, _)| *viewer).collect();
        for viewer in &covered {
            if let Some(session) = table.rows.get_mut(viewer) {
                session.is_revoked = true;
            }
            table.detach_unasked(*viewer);
        }
        covered
    }
}

impl Session {
    fn marks(&self) -> Marks<'_> {
        Marks {
            token: &self.token,
            kid: &self.kid,
            class: &self.class,
            user: &self.origin.user_id,
            issued_at: self.issued_at,
        }
    }
}
