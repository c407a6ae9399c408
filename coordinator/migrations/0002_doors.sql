-- The key that stands in the file `stream-key`: replacing the file revokes it.
ALTER TABLE stream_keys ADD COLUMN is_from_file BIGINT NOT NULL DEFAULT 0;
-- A removed class stays for the record of its sessions; its slug is given a suffix, so that it can be used again.
ALTER TABLE classes ADD COLUMN removed_at BIGINT;

-- Why a session ended, as a code. `error_message` is for the words of a problem while it lasts.
ALTER TABLE stream_sessions ADD COLUMN end_reason TEXT;
UPDATE stream_sessions SET end_reason = 'node_lost', error_message = NULL
    WHERE error_message = 'the node was lost';
UPDATE stream_sessions SET end_reason = 'node_restarted', error_message = NULL
    WHERE error_message = 'the node restarted';
UPDATE stream_sessions SET end_reason = 'superseded', error_message = NULL
    WHERE error_message = 'taken over by another connection';
UPDATE stream_sessions SET end_reason = 'unreported', error_message = NULL
    WHERE error_message = 'the node does not have it';
UPDATE stream_sessions SET end_reason = 'ended' WHERE ended_at IS NOT NULL AND end_reason IS NULL;
UPDATE viewer_sessions SET reason = 'node_lost' WHERE reason = 'the node was lost';
UPDATE viewer_sessions SET reason = 'node_restarted' WHERE reason = 'the node restarted';

-- Nothing ever wrote these.
ALTER TABLE stream_sessions DROP COLUMN camera_id;
ALTER TABLE stream_sessions DROP COLUMN pipeline_id;
ALTER TABLE stream_sessions DROP COLUMN rtp_endpoint_id;
ALTER TABLE stream_sessions DROP COLUMN webrtc_endpoint_id;
ALTER TABLE stream_sessions DROP COLUMN stream_id;
ALTER TABLE viewer_sessions DROP COLUMN webrtc_endpoint_id;
