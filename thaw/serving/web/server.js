// How the server's page classifies: the file's bytes go to the server as they are.

const AT_ONCE = 4; // requests, so that each of several cores has one
const WHERE = "They are sent to this server only, which keeps none of them.";

async function classify(file) {
  let response;
  try {
    response = await fetch("predict", { method: "POST", body: file, headers: { "Content-Type": "application/octet-stream" } });
  } catch {
    throw new Error("expected an answer, received none: the server can't be reached; start it again, or look at its log");
  }
  const told = await response.json().catch(() => ({ error: `expected an answer, received status ${response.status}` }));
  if (!response.ok) throw new Error(told.error);
  return told;
}
