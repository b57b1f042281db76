// The announced end of the token or the session of this page, and how its owner goes on.
import { onScopeDispose, ref, type Ref } from 'vue';

import { useGateway } from '../client';
import { useSession } from '../stores/session';

export function useRenewal(): {
  /** By the clock of this machine; `null`: no end is announced. */
  closesAt: Readonly<Ref<number | null>>;
  failure: Readonly<Ref<string>>;
  /** Goes on with this token, and with what it allows. Returns whether the server took it. */
  renew: (token: string) => Promise<boolean>;
} {
  const gateway = useGateway();
  const session = useSession();
  const closesAt = ref<number | null>(null);
  const failure = ref('');
  onScopeDispose(
    gateway.onExpiring((ms) => {
      closesAt.value = ms === null ? null : Date.now() + ms;
      if (ms === null) failure.value = '';
    }),
  );

  async function renew(token: string): Promise<boolean> {
    const answer = await gateway.refresh(token);
    if (!answer.ok) {
      failure.value = answer.error.message;
      return false;
    }
    await session.renewed(token);
    return true;
  }
  return { closesAt, failure, renew };
}
