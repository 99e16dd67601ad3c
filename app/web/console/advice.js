/** What a person can do about an error of the server, by its code. */

const ADVICE = {
  unreachable: 'Check that the server runs and that there is a network. The page tries again by itself.',
  forbidden: 'Use a token that has this right. The Overview says what yours may do.',
  not_found: 'It may have been deleted meanwhile, or your token has no right to it.',
  lease_expired: 'The lease has ended meanwhile. Look at the list again.',
  topic_paused: 'Publishing to this topic is paused. Resume it on the screen of the topic, then try again.',
  log_full: 'Purge a topic, retain less, or start the server with more --max-total-bytes.',
  topic_limit: 'Delete a topic that is no longer used, or start the server with more --max-topics.',
  group_limit: 'Delete a group that is no longer used, or start the server with more --max-groups.',
  rate_limited: 'Wait a moment, then try again.',
  busy: 'Wait a moment, then try again.',
  overloaded: 'Wait a moment, then try again.',
  subscriber_limit: 'Close other windows with the console, or start the server with more --max-subscribers.',
  draining: 'The server is stopping. Try again when it has started anew.',
  storage_failed: 'Look at the log of the server: the disk may be full or broken.',
  outcome_unknown: 'Look whether it was done before you repeat it, and look at the log of the server.',
  message_too_large: 'Send a shorter body, or start the server with more --max-message.',
  lockout: 'Make another token with the right to admin first.',
}

export const advice = problem => ADVICE[problem.code] ?? ''
