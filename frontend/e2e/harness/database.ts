import { execFileSync } from 'node:child_process';

/** A row of `stream_sessions`; the columns that tests look at. */
export interface StreamSession {
  session_id: string;
  status: 'starting' | 'active' | 'stopping' | 'stopped';
  ended_at: number | null;
}

/** A row of `viewer_sessions`; the columns that tests look at. */
export interface ViewerSession {
  viewer_id: string;
  stream_session_id: string;
  user_agent: string;
  connected_at: number | null;
  disconnected_at: number | null;
}

/** The server's own records, oldest first. */
export interface Records {
  streams: StreamSession[];
  viewers: ViewerSession[];
}

// Node has no SQLite before version 22, Debian's Python has. Read-only: the server is at work on the same file.
const READ = `
import glob, json, sqlite3, sys
files = [f for f in glob.glob(sys.argv[1] + "/*") if f.endswith((".db", ".sqlite", ".sqlite3"))]
database = sqlite3.connect("file:" + files[0] + "?mode=ro", uri=True)
database.row_factory = sqlite3.Row
rows = lambda table: [dict(row) for row in database.execute("SELECT * FROM " + table + " ORDER BY rowid")]
print(json.dumps({"streams": rows("stream_sessions"), "viewers": rows("viewer_sessions")}))
`;

/** Reads the sessions from the database in a server's data directory. */
export function records(dataDirectory: string): Records {
  return JSON.parse(execFileSync('python3', ['-c', READ, dataDirectory], { encoding: 'utf8' })) as Records;
}
