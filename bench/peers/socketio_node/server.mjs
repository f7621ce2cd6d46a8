// Socket.IO on Node: rooms per group, SQLite before the acknowledgement, and the Redis adapter when REDIS_URL is set.
import { createServer } from "node:http";
import Database from "better-sqlite3";
import jwt from "jsonwebtoken";
import { Server } from "socket.io";

const http = createServer();
const io = new Server(http, { transports: ["websocket"], serveClient: false });

if (process.env.REDIS_URL) {
  const { createAdapter } = await import("@socket.io/redis-adapter");
  const { createClient } = await import("redis");
  // Without a time-out: a publish that waits for longer than that would end the process.
  const publisher = createClient({ url: process.env.REDIS_URL, commandOptions: { timeout: undefined } });
  const subscriber = publisher.duplicate();
  await Promise.all([publisher.connect(), subscriber.connect()]);
  io.adapter(createAdapter(publisher, subscriber));
}

const database = new Database(process.env.DATABASE);
database.pragma("journal_mode = WAL");
database.pragma("synchronous = FULL"); // as durable as ours
database.exec(`CREATE TABLE IF NOT EXISTS timers
  (id TEXT PRIMARY KEY, owner TEXT, name TEXT, total_duration TEXT, end_time TEXT, version INTEGER)`);
const save = database.prepare(`INSERT INTO timers (id, owner, name, total_duration, end_time, version)
  VALUES (?, ?, ?, ?, ?, 1) ON CONFLICT (id) DO UPDATE SET name = excluded.name,
  total_duration = excluded.total_duration, end_time = excluded.end_time, version = version + 1
  RETURNING version`).pluck();

// What one turn of the event loop has brought is committed together: each commit waits for the disk, and alone they would
// measure nothing else. It is the favour that we do ourselves. COMMIT_EACH leaves it out, as most who write this would.
let waiting = [];
const commit = database.transaction((group) => {
  for (const update of group) {
    const { id, name, totalDuration, endTime } = update.timer;
    update.version = save.get(id, update.socket.data.user, name, totalDuration, endTime);
  }
});

function flush() {
  const group = waiting;
  waiting = [];
  commit(group);
  for (const { socket, timer, version, acknowledge } of group) {
    acknowledge({ version });
    socket.to(socket.data.group).emit("timer", {
      type: "timer",
      action: "update",
      timer: { ...timer, version },
      changedBy: socket.data.user,
    });
  }
}

io.use((socket, next) => {
  try {
    const claims = jwt.verify(socket.handshake.auth.token, process.env.SECRET, { algorithms: ["HS256"] });
    socket.data.user = claims.sub;
    socket.data.group = claims.group;
    next();
  } catch (error) {
    next(error);
  }
});

io.on("connection", (socket) => {
  socket.join(socket.data.group);
  socket.on("update", (message, acknowledge) => {
    if (!waiting.length && !process.env.COMMIT_EACH) setImmediate(flush);
    waiting.push({ socket, timer: message.timer, version: 0, acknowledge });
    if (process.env.COMMIT_EACH) flush();
  });
});

http.listen({ port: Number(process.env.PORT), host: "127.0.0.1", backlog: 4096 });
process.on("SIGTERM", () => process.exit(0));
