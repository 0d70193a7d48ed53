"use strict";
// Sends the token of a mailed link. It stands in the fragment, which browsers send to nobody, and only a press of the
// button uses it up: whatever follows links in mails by itself changes nothing.
(function () {
  var pages = {
    "verify": { path: "/auth/verify-email", done: "The address is confirmed. You can sign in now." },
    "reset": { path: "/auth/reset-password", done: "The password was changed. Sign in with the new one.", password: true },
    "confirm-email": { path: "/auth/confirm-email", done: "The new address is in force." },
    "cancel": { path: "/auth/cancel", done: "It was stopped." }
  };
  var page = pages[document.body.dataset.page];
  var message = document.getElementById("message");
  var form = document.getElementById("form");
  var field = document.getElementById("password-field");
  var input = document.getElementById("new-password");
  var button = document.getElementById("button");
  var token = new URLSearchParams(window.location.hash.slice(1)).get("token");

  function say(text, failed) {
    message.textContent = text;
    message.className = failed ? "failed" : "";
  }

  // Another link pasted over this page is another page.
  window.addEventListener("hashchange", function () {
    window.location.reload();
  });

  // The address bar and the history forget the token at once.
  window.history.replaceState(null, "", window.location.pathname);
  if (!token) {
    say("The link is incomplete. Copy it whole from the mail.", true);
    return;
  }
  form.hidden = false;
  field.hidden = !page.password;
  input.required = Boolean(page.password);
  if (page.password) {
    // Whoever comes too late need not think of a password first. This uses nothing up.
    fetch("/auth/validate-reset-token", {
      method: "POST",
      headers: { "content-type": "application/json", "x-plimsoll-csrf": "1" },
      body: JSON.stringify({ token: token }),
      credentials: "same-origin"
    }).then(function (answer) {
      return answer.ok ? answer.json() : null;
    }).then(function (found) {
      if (found && found.valid === false) {
        form.hidden = true;
        say("The link is not valid any more. Ask for a new one.", true);
      }
    }).catch(function () {
      // the attempt itself will tell
    });
  }

  form.addEventListener("submit", function (event) {
    event.preventDefault();
    button.disabled = true;
    var body = { token: token };
    if (page.password) {
      body.new_password = input.value;
    }
    fetch(page.path, {
      method: "POST",
      headers: { "content-type": "application/json", "x-plimsoll-csrf": "1" },
      body: JSON.stringify(body),
      credentials: "same-origin"
    }).then(function (answer) {
      if (answer.ok) {
        form.hidden = true;
        say(page.done, false);
        return null;
      }
      return answer.json().then(function (problem) {
        button.disabled = false;
        var first = problem.errors && problem.errors[0];
        say((first && first.detail) || problem.detail || problem.title, true);
      });
    }).catch(function () {
      button.disabled = false;
      say("The service does not answer. Try again in a moment.", true);
    });
  });
}());
