// Asking the relay, and changing it with the token.

const PATIENCE_MS = 5000;
const STORED = "forebay-admin-token";

/** The token: in this tab's session storage, and in nothing else. */
const token = {
  get() {
    try {
      return sessionStorage.getItem(STORED) ?? "";
    } catch {
      return "";
    }
  },
  set(value) {
    try {
      if (value) sessionStorage.setItem(STORED, value);
      else sessionStorage.removeItem(STORED);
    } catch {
      // Storage is forbidden in this browser: the token is asked for each time.
    }
  },
};

/** One request. Throws when the relay does not answer, and only then. */
async function ask(method, path, { body, bearer } = {}) {
  const headers = {};
  if (bearer) headers.Authorization = `Bearer ${bearer}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const response = await fetch(path, {
    method,
    headers,
    body: body === undefined ? undefined : JSON.stringify(body),
    cache: "no-store",
    credentials: "omit",
    redirect: "error",
    signal: AbortSignal.timeout(PATIENCE_MS),
  });
  const text = await response.text();
  let value = null;
  try {
    value = JSON.parse(text);
  } catch {
    // Not every answer is JSON; then its status says enough.
  }
  return { ok: response.ok, status: response.status, value };
}

/** What the last change came to, for everybody to read. */
function say(text, failed = false) {
  const said = byId("said");
  said.toggleAttribute("data-failed", failed);
  setText(said, text);
}

function whyNot(answer) {
  const { error, fix } = answer.value ?? {};
  if (typeof error !== "string") return `the relay answers with ${answer.status}`;
  return typeof fix === "string" ? `${error}; ${fix}` : error;
}

let access = { changes_need: "impossible", may_change: false };

async function learnAccess() {
  const answer = await ask("GET", "/v1/access", { bearer: token.get() });
  if (answer.ok && answer.value) access = answer.value;
  if (access.changes_need === "token" && !access.may_change) token.set("");
  showAccess();
}

function showAccess() {
  const needs = access.changes_need;
  byId("read-only").hidden = needs !== "impossible";
  byId("unlock").hidden = needs !== "token" || token.get() !== "";
  byId("lock").hidden = needs !== "token" || token.get() === "";
}

/** Opens a dialog; resolves when it is closed, with what `submit` returned. */
function dialog(name, prepare, submit) {
  const box = byId(`${name}-dialog`);
  const form = byId(`${name}-form`);
  const error = byId(`${name}-error`);
  return new Promise((resolve) => {
    let result = null;
    const onSubmit = async (event) => {
      event.preventDefault();
      setText(error, "");
      try {
        result = await submit();
        box.close();
      } catch (failure) {
        setText(error, failure.message);
      }
    };
    const onClick = (event) => {
      if (event.target.closest("[data-close]")) box.close();
    };
    const onClose = () => {
      form.removeEventListener("submit", onSubmit);
      box.removeEventListener("click", onClick);
      form.reset();
      resolve(result);
    };
    form.addEventListener("submit", onSubmit);
    box.addEventListener("click", onClick);
    box.addEventListener("close", onClose, { once: true });
    setText(error, "");
    prepare();
    box.showModal();
  });
}

/** Asks for the token, until it is good. True when there is one. */
async function unlock(why = "") {
  const input = byId("token");
  const good = await dialog(
    "token",
    () => setText(byId("token-error"), why),
    async () => {
      const given = input.value.trim();
      if (!given) throw new Error("Enter the token.");
      if (!/^[\x21-\x7e]+$/.test(given)) throw new Error("A token has no such characters.");
      let answer;
      try {
        answer = await ask("GET", "/v1/access", { bearer: given });
      } catch {
        throw new Error("The relay does not answer.");
      }
      if (!answer.value?.may_change) {
        input.select();
        throw new Error("The token is wrong.");
      }
      access = answer.value;
      token.set(given);
      return given;
    },
  );
  showAccess();
  return good;
}

/** Changes something, with the token if one is needed, and says what came of it. */
async function change(method, path, body, done) {
  let bearer = token.get();
  if (access.changes_need === "token" && !bearer) {
    bearer = await unlock();
    if (!bearer) return;
  }
  let answer;
  try {
    answer = await ask(method, path, { body, bearer });
    if (answer.status === 401) {
      // It was changed behind our back.
      token.set("");
      bearer = await unlock("The token is not good any more.");
      if (!bearer) return;
      answer = await ask(method, path, { body, bearer });
    }
  } catch {
    say("The relay does not answer; whether it was done is not known.", true);
    return;
  }
  if (answer.ok) say(done);
  else say(`Not done: ${whyNot(answer)}`, true);
  await running;
  await poll();
}

byId("unlock").addEventListener("click", () => unlock());
byId("lock").addEventListener("click", () => {
  token.set("");
  showAccess();
});

// Replays.

const byOffset = () => byId("replay-form").elements.by.value === "offset";

for (const radio of byId("replay-form").elements.by) {
  radio.addEventListener("change", () => {
    for (const id of ["replay-from", "replay-to"]) {
      byId(id).value = "";
      byId(id).type = byOffset() ? "number" : "datetime-local";
    }
  });
}

/** The end of a stretch, as the relay takes it: an offset, or a time with its zone. */
function end(id, name) {
  const input = byId(id);
  if (input.value === "" || !input.validity.valid) throw new Error(`Enter ${name}.`);
  return byOffset() ? Number(input.value) : new Date(input.value).toISOString();
}

async function startReplay(destinations) {
  const wanted = await dialog(
    "replay",
    () => {
      for (const id of ["replay-from", "replay-to"]) byId(id).type = "datetime-local";
      byId("replay-destination").replaceChildren(
        ...destinations.map((name) => make("option", { value: name }, name)),
      );
    },
    async () => {
      const body = {
        destination: byId("replay-destination").value,
        from: end("replay-from", "where it begins"),
      };
      // Without an end: up to now.
      if (byId("replay-to").value !== "") body.to = end("replay-to", "where it ends");
      for (const name of ["drain", "app"]) {
        const value = byId(`replay-${name}`).value.trim();
        if (value) body[name] = value;
      }
      const rate = byId("replay-rate");
      if (!rate.validity.valid) throw new Error("The rate is a whole number, 1 or more.");
      if (rate.value) body.rate = Number(rate.value);
      return body;
    },
  );
  if (wanted) await change("POST", "/v1/replays", wanted, `The replay to ${wanted.destination} has begun.`);
}
